// --router, and the composition that everything is compared with
// On every space.
#include "layer_block.hpp"

namespace train_lm {
namespace {

// A router with the losses that it wants, none where it balances by itself.
template <class ExecT, class RouterT, class... LossTs>
MoeBlockPtr<ExecT> with_router(ExecT const& exec,
                               BlockShape const& shape,
                               RouterT router,
                               moe::Tensor<float, 1, ExecT> selection_bias,
                               LossTs... losses)
{
  return compose(exec,
                 shape,
                 router,
                 moe::Dropless{},
                 DefaultDispatcher{},
                 DefaultExpert{},
                 std::move(selection_bias),
                 losses...);
}

// DeepSeek-V3's: balanced by a bias that end_step() moves.
template <class ExecT>
MoeBlockPtr<ExecT> with_selection_bias(ExecT const& exec, BlockShape const& shape)
{
  moe::Tensor<float, 1, ExecT> bias(exec, shape.experts);
  exec.zero(bias.view().data_handle(), bias.bytes());
  using Router = moe::SigmoidTopK<2, moe::renormalized, moe::ungrouped, ExecT>;
  Router const router{.bias = bias.const_view()};
  return with_router(exec, shape, router, std::move(bias));
}

}  // namespace

template <class ExecT>
MoeBlockPtr<ExecT> make_router_block(ExecT const& exec,
                                     Policies const& policies,
                                     BlockShape const& shape)
{
  auto const& name = policies.router;
  if (name == "softmax-after") {
    return with_router(exec, shape, moe::TopKSoftmax<2>{}, {}, balance_loss, z_loss);
  }
  if (name == "sigmoid-bias") { return with_selection_bias(exec, shape); }
  if (name == "switch") {
    return with_router(exec, shape, moe::SwitchRouter{}, {}, balance_loss, z_loss);
  }
  if (name == "noisy") {
    return with_router(exec, shape, moe::NoisyTopK<2>{}, {}, balance_loss, z_loss);
  }
  if (name == "expert-choice") {
    return with_router(exec, shape, moe::ExpertChoice{.factor = 2}, {});
  }
  return with_router(exec, shape, DefaultRouter{}, {}, balance_loss, z_loss);
}
template MoeBlockPtr<Space> make_router_block(Space const&, Policies const&, BlockShape const&);

}  // namespace train_lm
