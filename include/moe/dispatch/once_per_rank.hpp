#pragma once
// Of x and dy one row travels for each (token, rank), which the experts there read through their
// index as often as it was chosen. Outputs come back for each choice, so the bits are the same. In
// chunks, a token's row goes with the first chunk that has an expert for it.
#include <moe/dispatch/exchange.hpp>
#include <moe/dispatch/travel_rows.hpp>
#include <moe/plan/make_plan.hpp>

namespace moe {

// With K >= P a token has several experts at one rank, and this decides how much travels.
struct OncePerRank {
  template <class ExecT>
  struct Plan {
    RowBlocks blocks;                 // tokens' rows that go and come
    std::vector<RowBlocks> chunks;    // the same, chunk by chunk
    Tensor<Id, 1, ExecT> token_at;    // (A) row sent -> token; the first blocks.rows_sent()
    Tensor<Id, 1, ExecT> arrived_at;  // (R) row of an expert -> token's row as it arrived
  };
};

namespace detail {

// A part is a chunk of a rank: part = rank * chunks + chunk. Where the experts that took a token's
// choices are; P * chunks: nowhere, as it was dropped. A row of numbers_of_row choices.
template <class ExecT>
struct PartOfChoiceRow {
  View<Id const, 1, ExecT> slot_of;         // (A)
  View<Id const, 1, ExecT> expert_offsets;  // (E + 1) of compact slots
  index_t ranks, chunks;                    // P
  View<Id, 1, ExecT> part_of;               // (A)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    index_t const end = (row + 1) * numbers_of_row;
    for (index_t a = row * numbers_of_row + team.lane(); a < end; a += team.size()) {
      if (a < slot_of.extent(0)) { part_of(a) = part_with_choice(a); }
    }
  }

 private:
  [[nodiscard]] MOE_HOST_DEVICE Id part_with_choice(index_t a) const
  {
    if (slot_of(a) < 0) { return static_cast<Id>(ranks * chunks); }
    index_t const E = expert_offsets.extent(0) - 1;
    // The last expert that begins at or before the slot: those without rows begin there too.
    index_t const e     = lower_bound(expert_offsets, slot_of(a) + 1) - 1;
    index_t const rank  = part_with(E, ranks, e);
    auto const there    = detail::part_of(E, ranks, rank);
    index_t const chunk = chunk_of_expert(there.count, chunks, e - there.first);
    return static_cast<Id>(rank * chunks + chunk);
  }
};

// The choice of a's token with which its row goes to the rank of a: the first of the first chunk.
template <class ExecT>
MOE_HOST_DEVICE index_t
sent_with(View<Id const, 1, ExecT> part_of, index_t from, index_t to, index_t a, index_t chunks)
{
  index_t first = a;
  for (index_t b = from; b < to; ++b) {
    bool const earlier = part_of(b) < part_of(first) || (part_of(b) == part_of(first) && b < first);
    if (part_of(b) / chunks == part_of(a) / chunks && earlier) { first = b; }
  }
  return first;
}

// For sorting: the choices with which a row goes, by part.
template <class ExecT>
struct RowOfPartRow {
  TokenAssignments<ExecT> assignments;
  index_t parts, chunks;               // P * chunks
  View<Id const, 1, ExecT> part_of;    // (A)
  View<std::uint32_t, 1, ExecT> key;   // (A) part, or `parts`
  View<Id, 1, ExecT> counted, choice;  // (A) part or -1; a

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const from = assignments.begin(t), to = assignments.end(t);
    for (index_t a = from + team.lane(); a < to; a += team.size()) {
      bool const goes = part_of(a) < parts && sent_with(part_of, from, to, a, chunks) == a;
      key(a)          = static_cast<std::uint32_t>(goes ? part_of(a) : static_cast<Id>(parts));
      counted(a)      = goes ? part_of(a) : -1;
      choice(a)       = static_cast<Id>(a);
    }
    if (t + 1 < assignments.tokens) { return; }
    for (index_t a = to + team.lane(); a < assignments.count; a += team.size()) {
      key(a)     = static_cast<std::uint32_t>(parts);  // of no token
      counted(a) = -1;
      choice(a)  = static_cast<Id>(a);
    }
  }
};

// Row i that is sent, and where in its rank's block it lies.
template <class ExecT>
struct SentTokenRow {
  TokenAssignments<ExecT> assignments;
  index_t parts, chunks;
  View<std::uint32_t const, 1, ExecT> key;  // (A) sorted
  View<Id const, 1, ExecT> choice;          // (A) sorted alike
  View<Id, 1, ExecT> token_at;              // (A)
  View<Id, 1, ExecT> place_of;              // (A) by choice

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    if (team.lane() != 0 || key(i) >= static_cast<std::uint32_t>(parts)) { return; }
    auto const block    = static_cast<std::uint32_t>(key(i) / chunks * chunks);
    token_at(i)         = static_cast<Id>(assignments.token_of(choice(i)));
    place_of(choice(i)) = static_cast<Id>(i - lower_bound(key, block));
  }
};

// Every kept choice is told where its token's row lies among those that its rank gets.
template <class ExecT>
struct PlaceOfSlotRow {
  TokenAssignments<ExecT> assignments;
  index_t chunks;
  View<Id const, 1, ExecT> slot_of, part_of, place_of;  // (A)
  View<Id, 1, ExecT> at_slot;                           // (A)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const from = assignments.begin(t), to = assignments.end(t);
    for (index_t a = from + team.lane(); a < to; a += team.size()) {
      if (slot_of(a) < 0) { continue; }
      at_slot(slot_of(a)) = place_of(sent_with(part_of, from, to, a, chunks));
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
  auto const chunks   = static_cast<index_t>(slots.chunks.size());
  index_t const parts = checked_mul("moe::AllToAllDispatcher", "ranks x chunks", P, chunks);
  Tensor<Id, 1, ExecT> part_of(exec, A), counted(exec, A), choice(exec, A), choice_sorted(exec, A);
  Tensor<Id, 1, ExecT> place_of(exec, A), place_sent(exec, plan.rows()), place(exec, slots.rows);
  Tensor<std::uint32_t, 1, ExecT> key(exec, A), key_sorted(exec, A);
  Tensor<Id, 1, ExecT> going(exec, parts), coming(exec, parts);
  OncePerRank::Plan<ExecT> rows;
  rows.token_at   = Tensor<Id, 1, ExecT>(exec, A);
  rows.arrived_at = Tensor<Id, 1, ExecT>(exec, slots.rows);

  auto const slot_of = plan.slot_of.const_view();
  exec.for_each_row(detail::rows_of_numbers(A),
                    detail::PartOfChoiceRow<ExecT>{
                        slot_of, plan.expert_offsets.const_view(), P, chunks, part_of.view()});
  exec.for_each_row(assignments.tokens,
                    detail::RowOfPartRow<ExecT>{assignments,
                                                parts,
                                                chunks,
                                                part_of.const_view(),
                                                key.view(),
                                                counted.view(),
                                                choice.view()});
  sort_pairs(exec,
             detail::bits_for(parts),
             key.view(),
             choice.view(),
             key_sorted.view(),
             choice_sorted.view());
  exec.for_each_row(A,
                    detail::SentTokenRow<ExecT>{assignments,
                                                parts,
                                                chunks,
                                                key_sorted.const_view(),
                                                choice_sorted.const_view(),
                                                rows.token_at.view(),
                                                place_of.view()});
  exec.for_each_row(assignments.tokens,
                    detail::PlaceOfSlotRow<ExecT>{assignments,
                                                  chunks,
                                                  slot_of,
                                                  part_of.const_view(),
                                                  place_of.const_view(),
                                                  place_sent.view()});
  histogram(exec, counted.const_view(), going.view());
  comm.all_to_all(exec, going.const_view(), coming.view());
  exchange.to_experts(exec, comm, slots.blocks, route, 1, place_sent.const_view(), place.view());
  detail::wait_for_ranks(exec, comm);

  auto const ranks = static_cast<std::size_t>(P);
  rows.blocks      = RowBlocks(ranks);
  rows.chunks.assign(slots.chunks.size(), RowBlocks(ranks));
  auto const read = [&](Tensor<Id, 1, ExecT> const& from, std::vector<index_t> RowBlocks::* side) {
    std::vector<Id> counts(static_cast<std::size_t>(parts));
    exec.copy_to_host(counts.data(), from.const_view().data_handle(), counts.size() * sizeof(Id));
    for (std::size_t r = 0; r < ranks; ++r) {
      for (std::size_t c = 0; c < rows.chunks.size(); ++c) {
        index_t const n           = counts[r * rows.chunks.size() + c];
        (rows.chunks[c].*side)[r] = n;
        (rows.blocks.*side)[r] += n;
      }
    }
  };
  read(going, &RowBlocks::sent);
  read(coming, &RowBlocks::received);
  for (std::size_t r = 0; r < ranks; ++r) {
    Check const check{"moe::AllToAllDispatcher", comm.rank()};
    for (RowBlocks const& chunk : rows.chunks) {
      check.at_least("tokens from a rank", chunk.received[r], 0);
    }
    check.at_most(
        "tokens from a rank", rows.blocks.received[r], "rows from it", slots.blocks.received[r]);
  }
  rows.blocks.lay_out();
  detail::lay_out_chunks(rows.chunks, &RowBlocks::sent, &RowBlocks::sent_at, rows.blocks.sent_at);
  detail::lay_out_chunks(
      rows.chunks, &RowBlocks::received, &RowBlocks::received_at, rows.blocks.received_at);
  for (std::size_t r = 0; r < ranks; ++r) {
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
