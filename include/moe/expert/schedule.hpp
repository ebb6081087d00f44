#pragma once
// How rows that are here meet the expert kernel: how many calls, and how slots lie.
#include <moe/plan/routing_plan.hpp>
#include <moe/plan/slot_groups.hpp>

namespace moe {

// One call per expert: what a plain loop over experts does, and the readable reference.
struct SerialSchedule {
  template <class CapacityT>
  static constexpr SlotLayout layout = SlotLayout::compact;

  template <class ExecT, class Call>
  void for_each_call(ExecT const& exec, RowGroups<ExecT> const& groups, Call const& call) const
  {
    for_each_expert(exec, groups, call);
  }
};

// One call for all rows.
struct BatchedSchedule {
  template <class CapacityT>
  static constexpr SlotLayout layout = SlotLayout::compact;

  template <class ExecT, class Call>
  void for_each_call(ExecT const&, RowGroups<ExecT> const& groups, Call const& call) const
  {
    call(groups);
  }
};

// One call on C slots per expert, used or not: fixed shapes. Dropless has no C.
struct PaddedSchedule {
  template <class CapacityT>
  static constexpr SlotLayout layout   = SlotLayout::padded;
  static constexpr bool needs_capacity = true;

  template <class ExecT, class Call>
  void for_each_call(ExecT const&, RowGroups<ExecT> const& groups, Call const& call) const
  {
    call(groups);
  }
};

// Batched as it suits the capacity policy: padded where every expert has C slots of its own, else
// ragged.
struct AutomaticBatch {
  template <class CapacityT>
  static constexpr SlotLayout layout =
      CapacityT::bounded && !SharesSlots<CapacityT> ? SlotLayout::padded : SlotLayout::compact;

  template <class ExecT, class Call>
  void for_each_call(ExecT const&, RowGroups<ExecT> const& groups, Call const& call) const
  {
    call(groups);
  }
};

template <class S>
concept NeedsCapacity = S::needs_capacity;

}  // namespace moe
