#pragma once
// How rows that are here meet the expert kernel: how many calls, and how slots lie.
#include <moe/plan/routing_plan.hpp>

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

// Batched as it suits the capacity policy: ragged without drops, padded with.
struct AutomaticBatch {
  template <class CapacityT>
  static constexpr SlotLayout layout =
      CapacityT::bounded ? SlotLayout::padded : SlotLayout::compact;

  template <class ExecT, class Call>
  void for_each_call(ExecT const&, RowGroups<ExecT> const& groups, Call const& call) const
  {
    call(groups);
  }
};

template <class S>
concept NeedsCapacity = S::needs_capacity;

}  // namespace moe
