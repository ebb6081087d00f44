// The composition that the policies name.
// On every space.
#include "moe_block.hpp"
#include "space.hpp"

namespace train_lm {

// Policies are varied one at a time, so the first that is no default decides.
template <class ExecT>
MoeBlockPtr<ExecT> make_moe_block(ExecT const& exec,
                                  Policies const& policies,
                                  BlockShape const& shape)
{
  if (auto block = make_gate_block(exec, policies, shape)) { return block; }
  if (auto block = make_dispatch_block(exec, policies, shape)) { return block; }
  if (auto block = make_expert_block(exec, policies, shape)) { return block; }
  return make_router_block(exec, policies, shape);  // and the default
}
template MoeBlockPtr<Space> make_moe_block(Space const&, Policies const&, BlockShape const&);

}  // namespace train_lm
