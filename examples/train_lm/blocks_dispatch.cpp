// --capacity and --dispatcher
// On every space.
#include "layer_block.hpp"

namespace train_lm {
namespace {

template <class ExecT, class CapacityT, class DispatcherT>
MoeBlockPtr<ExecT> with_dispatch(ExecT const& exec,
                                 BlockShape const& shape,
                                 CapacityT capacity,
                                 DispatcherT dispatcher)
{
  return compose(exec,
                 shape,
                 DefaultRouter{},
                 capacity,
                 dispatcher,
                 DefaultExpert{},
                 {},
                 balance_loss,
                 z_loss);
}

}  // namespace

template <class ExecT>
MoeBlockPtr<ExecT> make_dispatch_block(ExecT const& exec,
                                       Policies const& policies,
                                       BlockShape const& shape)
{
  moe::CeilCapacity const rule{.factor = policies.capacity_factor};
  DefaultDispatcher const batched{};
  if (policies.capacity == "position") {
    return with_dispatch(exec, shape, moe::DropByPosition<>{rule}, batched);
  }
  if (policies.capacity == "weight") {
    return with_dispatch(exec, shape, moe::DropByWeight<>{rule}, batched);
  }
  if (policies.capacity == "priority") {
    return with_dispatch(exec, shape, moe::DropByTokenPriority<>{rule}, batched);
  }
  if (policies.dispatcher == "serial") {
    return with_dispatch(exec, shape, moe::Dropless{}, moe::SerialDispatcher{});
  }
  return nullptr;
}
template MoeBlockPtr<Space> make_dispatch_block(Space const&, Policies const&, BlockShape const&);

}  // namespace train_lm
