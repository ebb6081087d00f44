#pragma once
// Of x and dy one row travels for each (token, rank), which the experts there read through their
// index as often as it was chosen. Outputs come back for each choice, so the bits are the same.
#include <moe/dispatch/exchange.hpp>
#include <moe/dispatch/travel_rows.hpp>
#include <moe/plan/make_plan.hpp>

namespace moe {

// With K >= P a token has several experts at one rank, and this decides how much travels.
struct OncePerRank {
  template <class ExecT>
  struct Plan {
    RowBlocks blocks;                 // tokens' rows that go and come
    Tensor<Id, 1, ExecT> token_at;    // (A) row sent -> token; the first rows_sent()
    Tensor<Id, 1, ExecT> arrived_at;  // (R) row of an expert -> token's row as it arrived
  };
};

namespace detail {

// Ranks of the experts that took a token's choices; P: of none, as it was dropped.
template <class ExecT>
struct RankOfChoiceRow {
  View<Id const, 1, ExecT> slot_of;         // (A)
  View<Id const, 1, ExecT> expert_offsets;  // (E + 1) of compact slots
  index_t ranks;                            // P
  View<Id, 1, ExecT> rank_of;               // (A)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t a) const
  {
    if (team.lane() != 0) { return; }
    if (slot_of(a) < 0) {
      rank_of(a) = static_cast<Id>(ranks);
      return;
    }
    index_t const E = expert_offsets.extent(0) - 1;
    // The last expert that begins at or before the slot: those without rows begin there too.
    index_t const e = lower_bound(expert_offsets, slot_of(a) + 1) - 1;
    rank_of(a)      = static_cast<Id>(((e + 1) * ranks - 1) / E);  // experts_of_rank's inverse
  }
};

// For sorting: the choices that are the first of their token at their rank, by rank.
template <class ExecT>
struct FirstAtRankRow {
  TokenAssignments<ExecT> assignments;
  index_t ranks;
  View<Id const, 1, ExecT> rank_of;    // (A)
  View<std::uint32_t, 1, ExecT> key;   // (A) rank, or P
  View<Id, 1, ExecT> counted, choice;  // (A) rank or -1; a

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const from = assignments.begin(t);
    for (index_t a = from + team.lane(); a < assignments.end(t); a += team.size()) {
      bool first = rank_of(a) < ranks;
      for (index_t b = from; b < a; ++b) {
        first = first && rank_of(b) != rank_of(a);
      }
      key(a)     = static_cast<std::uint32_t>(first ? rank_of(a) : static_cast<Id>(ranks));
      counted(a) = first ? rank_of(a) : -1;
      choice(a)  = static_cast<Id>(a);
    }
  }
};

// Row i that is sent, and where in its rank's block it lies.
template <class ExecT>
struct SentTokenRow {
  TokenAssignments<ExecT> assignments;
  index_t ranks;
  View<std::uint32_t const, 1, ExecT> key;  // (A) sorted
  View<Id const, 1, ExecT> choice;          // (A) sorted alike
  View<Id, 1, ExecT> token_at;              // (A)
  View<Id, 1, ExecT> place_of;              // (A) by choice

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    if (team.lane() != 0 || key(i) >= static_cast<std::uint32_t>(ranks)) { return; }
    token_at(i)         = static_cast<Id>(assignments.token_of(choice(i)));
    place_of(choice(i)) = static_cast<Id>(i - lower_bound(key, key(i)));
  }
};

// Every kept choice is told where its token's row lies among those that its rank gets.
template <class ExecT>
struct PlaceOfSlotRow {
  TokenAssignments<ExecT> assignments;
  View<Id const, 1, ExecT> slot_of, rank_of, place_of;  // (A)
  View<Id, 1, ExecT> at_slot;                           // (A)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const from = assignments.begin(t);
    for (index_t a = from + team.lane(); a < assignments.end(t); a += team.size()) {
      if (slot_of(a) < 0) { continue; }
      index_t first = from;
      while (rank_of(first) != rank_of(a)) {
        ++first;
      }
      at_slot(slot_of(a)) = place_of(first);
    }
  }
};

// Places within a rank's block become rows of the whole.
template <class ExecT>
struct PlaceInBlockRow {
  Id block_begin;
  View<Id, 1, ExecT> place;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    if (team.lane() == 0) { place(i) += block_begin; }
  }
};

}  // namespace detail

// Collective; waits for the device, which counts.
template <class ExecT, class CommT, class ExchangeT>
[[nodiscard]] OncePerRank::Plan<ExecT> plan_once_per_rank(
    ExecT const& exec,
    CommT const& comm,
    TokenAssignments<ExecT> const& assignments,
    RoutingPlan<ExecT> const& plan,
    ExchangePlan<ExecT> const& slots,
    ExchangeT const& exchange,
    typename ExchangeT::Route const& route)
{
  index_t const A = assignments.count, P = comm.size();
  Tensor<Id, 1, ExecT> rank_of(exec, A), counted(exec, A), choice(exec, A), choice_sorted(exec, A);
  Tensor<Id, 1, ExecT> place_of(exec, A), place_sent(exec, plan.rows()), place(exec, slots.rows);
  Tensor<std::uint32_t, 1, ExecT> key(exec, A), key_sorted(exec, A);
  Tensor<Id, 1, ExecT> going(exec, P), coming(exec, P);
  OncePerRank::Plan<ExecT> rows;
  rows.token_at   = Tensor<Id, 1, ExecT>(exec, A);
  rows.arrived_at = Tensor<Id, 1, ExecT>(exec, slots.rows);

  auto const slot_of = plan.slot_of.const_view();
  exec.for_each_row(
      A,
      detail::RankOfChoiceRow<ExecT>{slot_of, plan.expert_offsets.const_view(), P, rank_of.view()});
  exec.for_each_row(
      assignments.tokens,
      detail::FirstAtRankRow<ExecT>{
          assignments, P, rank_of.const_view(), key.view(), counted.view(), choice.view()});
  sort_pairs(exec,
             detail::bits_for(P),
             key.view(),
             choice.view(),
             key_sorted.view(),
             choice_sorted.view());
  exec.for_each_row(A,
                    detail::SentTokenRow<ExecT>{assignments,
                                                P,
                                                key_sorted.const_view(),
                                                choice_sorted.const_view(),
                                                rows.token_at.view(),
                                                place_of.view()});
  exec.for_each_row(
      assignments.tokens,
      detail::PlaceOfSlotRow<ExecT>{
          assignments, slot_of, rank_of.const_view(), place_of.const_view(), place_sent.view()});
  histogram(exec, counted.const_view(), going.view());
  comm.all_to_all(exec, going.const_view(), coming.view());
  exchange.to_experts(exec, comm, slots.blocks, route, 1, place_sent.const_view(), place.view());

  auto const read = [&](Tensor<Id, 1, ExecT> const& from) {
    std::vector<Id> counts(static_cast<std::size_t>(P));
    exec.copy_to_host(counts.data(), from.const_view().data_handle(), counts.size() * sizeof(Id));
    return std::vector<index_t>(counts.begin(), counts.end());
  };
  rows.blocks.sent     = read(going);
  rows.blocks.received = read(coming);
  for (std::size_t r = 0; r < rows.blocks.received.size(); ++r) {
    Check{"moe::AllToAllDispatcher", comm.rank()}.at_most(
        "tokens from a rank", rows.blocks.received[r], "rows from it", slots.blocks.received[r]);
  }
  detail::lay_out(rows.blocks.sent, rows.blocks.sent_at);
  detail::lay_out(rows.blocks.received, rows.blocks.received_at);
  for (std::size_t r = 0; r < rows.blocks.received.size(); ++r) {
    index_t const n = slots.blocks.received[r];
    if (n == 0) { continue; }
    View<Id, 1, ExecT> const block(place.view().data_handle() + slots.blocks.received_at[r], n);
    exec.for_each_row(
        n, detail::PlaceInBlockRow<ExecT>{static_cast<Id>(rows.blocks.received_at[r]), block});
  }
  gather_numbers(exec, place.const_view(), slots.arrived_at.const_view(), rows.arrived_at.view());
  return rows;
}

}  // namespace moe
