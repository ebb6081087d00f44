#pragma once
// All that is worked out once, forward, about what travels, and used on every way.
#include <moe/dispatch/once_per_rank.hpp>

namespace moe {

// A row of x, or of dy, travels for each (token, choice). The alternative is OncePerRank.
struct EachChoice {
  template <class ExecT>
  struct Plan {};
};

template <class ExecT, class ExchangeT, class RowsT>
struct Travel {
  static constexpr bool each_choice = std::same_as<RowsT, EachChoice>;
  using Route                       = typename ExchangeT::Route;

  ExchangePlan<ExecT> plan;  // of slots: outputs, their gradients, weights
  Route route;
  typename RowsT::template Plan<ExecT> tokens;  // of x and dy, where they travel otherwise
  Route route_of_tokens;

  [[nodiscard]] RowBlocks const& token_blocks() const
  {
    if constexpr (each_choice) {
      return plan.blocks;
    } else {
      return tokens.blocks;
    }
  }
  [[nodiscard]] Route const& token_route() const { return each_choice ? route : route_of_tokens; }
  // row sent -> token
  [[nodiscard]] View<Id const, 1, ExecT> token_at(RoutingPlan<ExecT> const& slots) const
  {
    if constexpr (each_choice) {
      return slots.token_at.const_view();
    } else {
      return tokens.token_at.const_view();
    }
  }
  // (R) row of an expert -> row as it arrived
  [[nodiscard]] View<Id const, 1, ExecT> arrived_at() const
  {
    if constexpr (each_choice) {
      return plan.arrived_at.const_view();
    } else {
      return tokens.arrived_at.const_view();
    }
  }
};

// Collective; waits for the device.
template <class RowsT, class ExecT, class CommT, class ExchangeT>
[[nodiscard]] Travel<ExecT, ExchangeT, RowsT> make_travel(
    ExecT const& exec,
    CommT const& comm,
    ExchangeT const& exchange,
    [[maybe_unused]] TokenAssignments<ExecT> const& assignments,
    RoutingPlan<ExecT> const& slots)
{
  Travel<ExecT, ExchangeT, RowsT> travel;
  travel.plan  = make_exchange_plan(exec, comm, slots);
  travel.route = exchange.make_route(exec, comm, travel.plan.blocks);
  if constexpr (!travel.each_choice) {
    travel.tokens =
        plan_once_per_rank(exec, comm, assignments, slots, travel.plan, exchange, travel.route);
    travel.route_of_tokens = exchange.make_route(exec, comm, travel.tokens.blocks);
  }
  return travel;
}

}  // namespace moe
