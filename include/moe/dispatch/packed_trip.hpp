#pragma once
// What is worked out once per batch about rows that travel packed.
#include <vector>

#include <moe/dispatch/dispatcher.hpp>
#include <moe/dispatch/once_per_rank.hpp>

namespace moe {

// A row of x, or of dy, travels for each (token, choice). The alternative is OncePerRank.
struct EachChoice {
  template <class ExecT>
  struct Plan {};
};

// Which rows go: x, outputs then come home, weighted where they are summed on the way; or dy, and
// the gradients of x.
enum class Leg : bool { forward, backward };

namespace detail {

// Calls f(row in the whole, row when packed, rows) for blocks that lie next to each other at once.
template <class F>
void for_each_run(std::vector<index_t> const& counts, std::vector<index_t> const& offsets, F f)
{
  index_t packed = 0, from = 0, rows = 0;
  for (std::size_t r = 0; r < counts.size(); ++r) {
    if (counts[r] == 0) { continue; }
    if (rows > 0 && offsets[r] != from + rows) {
      f(from, packed, rows);
      packed += rows;
      rows = 0;
    }
    if (rows == 0) { from = offsets[r]; }
    rows += counts[r];
  }
  if (rows > 0) { f(from, packed, rows); }
}

// Of a batch: forward, and used on every way.
template <class T, class ExecT, class ExchangeT, class RowsT>
struct PackedTrip {
  static constexpr bool each_choice = std::same_as<RowsT, EachChoice>;
  using Route                       = typename ExchangeT::Route;

  ExchangePlan<ExecT> plan;  // of slots: outputs, their gradients, weights
  Route route;
  std::vector<Route> chunk_routes;              // (chunks); none where there is one chunk
  typename RowsT::template Plan<ExecT> tokens;  // of x and dy, where they travel otherwise
  std::vector<Route> token_routes;              // (chunks)

  // Collective; waits for the device.
  template <class CommT>
  [[nodiscard]] static PackedTrip made(ExecT const& exec,
                                       CommT const& comm,
                                       DispatchInput<T, ExecT> const& in,
                                       ExchangeT const& exchange,
                                       int chunks)
  {
    auto const routes = [&](std::vector<RowBlocks> const& of) {
      std::vector<Route> all;
      for (RowBlocks const& blocks : of) {
        all.push_back(exchange.make_route(exec, comm, blocks));
      }
      return all;
    };
    PackedTrip trip;
    trip.plan  = make_exchange_plan(exec, comm, in.plan, chunks);
    trip.route = exchange.make_route(exec, comm, trip.plan.blocks);
    if (chunks > 1) { trip.chunk_routes = routes(trip.plan.chunks); }
    if constexpr (!each_choice) {
      trip.tokens =
          plan_once_per_rank(exec, comm, in.assignments, in.plan, trip.plan, exchange, trip.route);
      trip.token_routes = routes(trip.tokens.chunks);
    }
    return trip;
  }

  [[nodiscard]] index_t rows() const { return plan.rows; }
  [[nodiscard]] int chunks() const { return static_cast<int>(plan.chunks.size()); }
  [[nodiscard]] RowGroups<ExecT> groups() const { return plan.groups(); }
  [[nodiscard]] RowGroups<ExecT> groups(int c) const
  {
    return plan.groups(static_cast<std::size_t>(c));
  }

  // Of outputs, and of x and dy.
  [[nodiscard]] Route const& route_of(std::size_t chunk) const
  {
    return chunk_routes.empty() ? route : chunk_routes[chunk];
  }
  [[nodiscard]] Route const& token_route_of(std::size_t chunk) const
  {
    return each_choice ? route_of(chunk) : token_routes[chunk];
  }
  [[nodiscard]] std::vector<RowBlocks> const& token_chunks() const
  {
    if constexpr (each_choice) {
      return plan.chunks;
    } else {
      return tokens.chunks;
    }
  }
  // row sent -> token
  [[nodiscard]] View<Id const, 1, ExecT> token_at(DispatchInput<T, ExecT> const& in) const
  {
    if constexpr (each_choice) {
      return in.plan.token_at.const_view();
    } else {
      return tokens.token_at.const_view();
    }
  }
  // row of an expert -> row as it arrived
  [[nodiscard]] View<Id const, 1, ExecT> arrived_at() const
  {
    if constexpr (each_choice) {
      return plan.arrived_at.const_view();
    } else {
      return tokens.arrived_at.const_view();
    }
  }
  [[nodiscard]] index_t rows_arriving() const
  {
    if constexpr (each_choice) {
      return plan.rows;
    } else {
      return tokens.blocks.rows_received();
    }
  }
};

}  // namespace detail
}  // namespace moe
