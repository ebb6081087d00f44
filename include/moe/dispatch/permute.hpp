#pragma once
// One number per assignment to one per slot, and back. Rows themselves are never permuted: the
// expert kernel reads them through the plan's token_at.
#include <moe/exec/execution_space.hpp>
#include <moe/plan/routing_plan.hpp>

namespace moe {
namespace detail {

// at_slot(slot_of(a)) = of_assignment(a)
template <class S, class ExecT>
struct ToSlots {
  View<Id const, 1, ExecT> slot_of;       // (A)
  View<S const, 1, ExecT> of_assignment;  // (A)
  View<S, 1, ExecT> at_slot;              // (R)
  MOE_HOST_DEVICE void operator()(index_t a) const
  {
    if (slot_of(a) >= 0) { at_slot(slot_of(a)) = of_assignment(a); }
  }
};

// of_assignment(a) = at_slot(slot_of(a)), 0 for a dropped one
template <class S, class ExecT>
struct FromSlots {
  View<Id const, 1, ExecT> slot_of;  // (A)
  View<S const, 1, ExecT> at_slot;   // (R)
  View<S, 1, ExecT> of_assignment;   // (A)
  MOE_HOST_DEVICE void operator()(index_t a) const
  {
    of_assignment(a) = slot_of(a) < 0 ? S{0} : at_slot(slot_of(a));
  }
};

}  // namespace detail

template <class ExecT, class S>
void to_slots(ExecT const& exec,
              RoutingPlan<ExecT> const& plan,
              std::type_identity_t<View<S const, 1, ExecT>> of_assignment,
              View<S, 1, ExecT> at_slot)
{
  auto const phase = exec.phase(Phase::dispatch);
  detail::for_each_number(
      exec,
      of_assignment.extent(0),
      detail::ToSlots<S, ExecT>{plan.slot_of.const_view(), of_assignment, at_slot});
}

template <class ExecT, class S>
void from_slots(ExecT const& exec,
                RoutingPlan<ExecT> const& plan,
                std::type_identity_t<View<S const, 1, ExecT>> at_slot,
                View<S, 1, ExecT> of_assignment)
{
  auto const phase = exec.phase(Phase::dispatch);
  detail::for_each_number(
      exec,
      of_assignment.extent(0),
      detail::FromSlots<S, ExecT>{plan.slot_of.const_view(), at_slot, of_assignment});
}

}  // namespace moe
