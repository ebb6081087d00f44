// --gate
// On every space.
#include "layer_block.hpp"

namespace train_lm {
namespace {

template <class ExecT, class GateT>
MoeBlockPtr<ExecT> with_gate(ExecT const& exec, BlockShape const& shape, GateT gate)
{
  return compose(exec,
                 shape,
                 DefaultRouter{},
                 moe::Dropless{},
                 DefaultDispatcher{},
                 DefaultExpert{},
                 {},
                 gate,
                 balance_loss,
                 z_loss);
}

}  // namespace

template <class ExecT>
MoeBlockPtr<ExecT> make_gate_block(ExecT const& exec,
                                   Policies const& policies,
                                   BlockShape const& shape)
{
  if (policies.gate == "low-rank") { return with_gate(exec, shape, moe::LowRankGate{}); }
  if (policies.gate == "cosine") { return with_gate(exec, shape, moe::CosineGate{}); }
  if (policies.gate == "tempered") {
    return with_gate(exec, shape, moe::TemperedGate<moe::LinearGate>{});
  }
  return nullptr;
}
template MoeBlockPtr<Space> make_gate_block(Space const&, Policies const&, BlockShape const&);

}  // namespace train_lm
