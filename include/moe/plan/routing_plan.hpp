#pragma once
// Which assignment sits in which slot: assignments sorted by expert, and the inverse map.
#include <moe/expert/expert_rows.hpp>
#include <moe/plan/capacity_policy.hpp>
#include <moe/route/routing.hpp>

namespace moe {

inline constexpr Id dropped = -1;  // slot of an assignment that has none

// How the slots lie: each expert's rows after the other's, or C slots for every expert.
enum class SlotLayout { compact, padded };

// Within an expert, rows lie in (token, k) order, whatever the order in which they claimed slots.
template <class ExecT>
struct RoutingPlan {
  RoutingPlan() = default;
  RoutingPlan(ExecT const& exec,
              SlotLayout slot_layout,
              index_t experts,
              index_t assignments,
              index_t slots)
      : layout{slot_layout},
        tokens_per_expert(exec, experts),
        kept_per_expert(exec, experts),
        expert_offsets(exec, experts + 1),
        slot_of(exec, assignments),
        assignment_at(exec, slots),
        token_at(exec, slots),
        dropped_list(exec, assignments),
        dropped_count(exec, 1)
  {
  }
  [[nodiscard]] index_t rows() const { return token_at.extent(0); }  // R, the bound the host knows
  [[nodiscard]] RowGroups<ExecT> groups() const
  {
    auto const counts =
        layout == SlotLayout::padded ? kept_per_expert.const_view() : View<Id const, 1, ExecT>{};
    return {
        expert_offsets.const_view(), counts, rows(), 0, static_cast<Id>(kept_per_expert.extent(0))};
  }

  SlotLayout layout = SlotLayout::compact;
  Tensor<Id, 1, ExecT> tokens_per_expert;  // (E) asked for, before drops; over all ranks
  Tensor<Id, 1, ExecT> kept_per_expert;    // (E)
  Tensor<Id, 1, ExecT> expert_offsets;     // (E + 1) first slot
  Tensor<Id, 1, ExecT> slot_of;            // (A) assignment -> slot, or `dropped`
  Tensor<Id, 1, ExecT> assignment_at;      // (R) slot -> assignment; only live slots are written
  Tensor<Id, 1, ExecT> token_at;           // (R) slot -> row of x
  Tensor<Id, 1, ExecT> dropped_list;       // (A) the first dropped_count: dropped ones, ascending
  Tensor<Id, 1, ExecT> dropped_count;      // (1)
};

}  // namespace moe
