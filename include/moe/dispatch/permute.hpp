#pragma once
// One number per assignment to one per slot, and back. Rows themselves are never permuted: the
// expert kernel reads them through the plan's token_at.
#include <moe/exec/execution_space.hpp>
#include <moe/plan/routing_plan.hpp>

namespace moe {
namespace detail {

// at_slot(slot_of(a)) = of_assignment(a)
template <class S, class ExecT>
struct ToSlotsRow {
  View<Id const, 1, ExecT> slot_of;       // (A)
  View<S const, 1, ExecT> of_assignment;  // (A)
  View<S, 1, ExecT> at_slot;              // (R)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t a) const
  {
    if (team.lane() == 0 && slot_of(a) >= 0) { at_slot(slot_of(a)) = of_assignment(a); }
  }
};

// of_assignment(a) = at_slot(slot_of(a)), 0 for a dropped one
template <class S, class ExecT>
struct FromSlotsRow {
  View<Id const, 1, ExecT> slot_of;  // (A)
  View<S const, 1, ExecT> at_slot;   // (R)
  View<S, 1, ExecT> of_assignment;   // (A)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t a) const
  {
    if (team.lane() == 0) { of_assignment(a) = slot_of(a) < 0 ? S{0} : at_slot(slot_of(a)); }
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
  exec.for_each_row(
      of_assignment.extent(0),
      detail::ToSlotsRow<S, ExecT>{plan.slot_of.const_view(), of_assignment, at_slot});
}

template <class ExecT, class S>
void from_slots(ExecT const& exec,
                RoutingPlan<ExecT> const& plan,
                std::type_identity_t<View<S const, 1, ExecT>> at_slot,
                View<S, 1, ExecT> of_assignment)
{
  auto const phase = exec.phase(Phase::dispatch);
  exec.for_each_row(
      of_assignment.extent(0),
      detail::FromSlotsRow<S, ExecT>{plan.slot_of.const_view(), at_slot, of_assignment});
}

}  // namespace moe
