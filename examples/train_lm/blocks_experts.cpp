// --experts
// On every space.
#include "layer_block.hpp"

namespace train_lm {
namespace {

template <class ExecT, class ExpertT>
MoeBlockPtr<ExecT> with_expert(ExecT const& exec, BlockShape const& shape, ExpertT expert)
{
  return compose(exec,
                 shape,
                 DefaultRouter{},
                 moe::Dropless{},
                 DefaultDispatcher{},
                 expert,
                 {},
                 balance_loss,
                 z_loss);
}

}  // namespace

template <class ExecT>
MoeBlockPtr<ExecT> make_expert_block(ExecT const& exec,
                                     Policies const& policies,
                                     BlockShape const& shape)
{
  auto const& name = policies.experts;
  if (name == "geglu") { return with_expert(exec, shape, moe::Ffn<moe::GeGlu>{}); }
  if (name == "relu") { return with_expert(exec, shape, moe::Ffn<moe::Relu>{}); }
  if (name == "squared-relu") { return with_expert(exec, shape, moe::Ffn<moe::SquaredRelu>{}); }
  if (name == "gelu") { return with_expert(exec, shape, moe::Ffn<moe::Gelu>{}); }
  if (name == "silu") { return with_expert(exec, shape, moe::Ffn<moe::Silu>{}); }
  if (name == "gpt-oss") {
    return with_expert(exec, shape, moe::Ffn<moe::ClampedGlu, moe::with_bias>{});
  }
  return nullptr;
}
template MoeBlockPtr<Space> make_expert_block(Space const&, Policies const&, BlockShape const&);

}  // namespace train_lm
