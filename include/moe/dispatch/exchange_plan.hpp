#pragma once
// Which rows go to which rank, and where they arrive. The slots of a compact plan lie expert by
// expert and experts lie rank by rank, so what goes to one rank is one block of slots already, and
// its way back ends in the same slots. Rows arrive block after block in the order of ranks, each
// sorted by expert; the expert kernel reads them through `arrived_at`. A chunk is a range of every
// rank's experts, so its rows are a part of each block, on both sides.
#include <limits>
#include <vector>

#include <moe/dispatch/expert_partition.hpp>
#include <moe/dispatch/row_blocks.hpp>
#include <moe/exec/execution_space.hpp>
#include <moe/plan/routing_plan.hpp>

namespace moe {

template <class ExecT>
struct ExchangePlan {
  RowBlocks blocks;               // slots that go, rows that come
  std::vector<RowBlocks> chunks;  // the same, chunk by chunk
  index_t rows = 0;               // R

  Tensor<Id, 1, ExecT> offsets;     // (L + 1) rows of each expert here, in global (token, k) order
  Tensor<Id, 1, ExecT> arrived_at;  // (R) row of an expert -> row as it arrived
  Tensor<Id, 1, ExecT> row_of;      // (R) the inverse

  [[nodiscard]] index_t experts() const { return offsets.extent(0) - 1; }  // L
  [[nodiscard]] RowGroups<ExecT> groups() const
  {
    return {offsets.const_view(), {}, rows, 0, static_cast<Id>(experts())};
  }
  [[nodiscard]] RowGroups<ExecT> groups(std::size_t chunk) const
  {
    auto const some = experts_of_chunk(
        experts(), static_cast<index_t>(chunks.size()), static_cast<index_t>(chunk));
    return groups().only(static_cast<Id>(some.first), static_cast<Id>(some.first + some.count));
  }
};

namespace detail {

// count(s, e) rows came from rank s for local expert e. Rows that arrived lie by (s, e), rows of
// experts by (e, s).
template <class ExecT>
struct ArrivalRow {
  View<Id const, 1, ExecT> count;  // (P * L)
  index_t ranks, experts;          // P, L
  View<Id, 1, ExecT> offsets;      // (L + 1)
  View<Id, 1, ExecT> arrived_at;   // (R)
  View<Id, 1, ExecT> row_of;       // (R)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    index_t const from = i / experts, expert = i % experts;
    Id before_arrived = 0, before_row = 0, of_lower = 0;
    for (index_t j = team.lane(); j < ranks * experts; j += team.size()) {
      index_t const s = j / experts, e = j % experts;
      before_arrived += j < i ? count(j) : 0;
      of_lower += e < expert ? count(j) : 0;
      before_row += e == expert && s < from ? count(j) : 0;
    }
    before_arrived = team.sum(before_arrived);
    of_lower       = team.sum(of_lower);
    before_row     = team.sum(before_row) + of_lower;
    for (index_t n = team.lane(); n < count(i); n += team.size()) {
      arrived_at(before_row + n) = static_cast<Id>(before_arrived + n);
      row_of(before_arrived + n) = static_cast<Id>(before_row + n);
    }
    if (team.lane() == 0 && from == 0) { offsets(expert) = of_lower; }
    if (team.lane() == 0 && i == ranks * experts - 1) {
      offsets(experts) = static_cast<Id>(before_arrived + count(i));
    }
  }
};

// A peer's count is an index into our memory, so it is looked at before it is used.
inline void check_received_count(int rank, int from, Id count, index_t so_far)
{
  Check const check{"moe::AllToAllDispatcher", rank};
  if (count < 0) {
    check.fail<ValueError>(
        joined({"rows of an expert from rank ", text_of(from)}), text_of(count), "at least 0");
  }
  check.that<OverflowError>(so_far + count <= std::numeric_limits<Id>::max(),
                            "rows that arrive",
                            so_far + count,
                            "at most 2147483647, the largest 32-bit id");
}

}  // namespace detail

// Counts travel before rows. Waits for the device: how many rows arrive is for the host to know.
template <class ExecT, class CommT>
[[nodiscard]] ExchangePlan<ExecT> make_exchange_plan(ExecT const& exec,
                                                     CommT const& comm,
                                                     RoutingPlan<ExecT> const& plan,
                                                     int chunks)
{
  int const P       = comm.size();
  index_t const E   = plan.kept_per_expert.extent(0);
  auto const mine   = experts_of_rank(E, P, comm.rank());
  auto const ranks  = static_cast<std::size_t>(P);
  index_t const all = P * mine.count;

  std::vector<index_t> out(ranks), out_at(ranks), in(ranks, mine.count), in_at(ranks);
  for (int r = 0; r < P; ++r) {
    auto const theirs = experts_of_rank(E, P, r);
    auto const i      = static_cast<std::size_t>(r);
    out[i]            = theirs.count;
    out_at[i]         = theirs.first;
    in_at[i]          = r * mine.count;
  }
  Tensor<Id, 1, ExecT> arriving(exec, all);
  comm.all_to_all_v(exec,
                    plan.kept_per_expert.const_view(),
                    RankBlocks{out, out_at},
                    arriving.view(),
                    RankBlocks{in, in_at});
  detail::wait_for_ranks(exec, comm);
  std::vector<Id> kept(static_cast<std::size_t>(E)), counts(static_cast<std::size_t>(all));
  exec.copy_to_host(
      kept.data(), plan.kept_per_expert.const_view().data_handle(), kept.size() * sizeof(Id));
  exec.copy_to_host(counts.data(), arriving.const_view().data_handle(), counts.size() * sizeof(Id));
  // A space that computes nothing is told (MemoryMeter).
  if constexpr (requires { exec.tell_planned_rows(kept, counts); }) {
    exec.tell_planned_rows(kept, counts);
  }

  ExchangePlan<ExecT> x;
  x.blocks = RowBlocks(ranks);
  x.chunks.assign(static_cast<std::size_t>(chunks), RowBlocks(ranks));
  auto const chunk_of = [&](index_t experts, index_t e) -> RowBlocks& {
    return x.chunks[static_cast<std::size_t>(chunk_of_expert(experts, chunks, e))];
  };
  for (std::size_t r = 0; r < ranks; ++r) {
    for (index_t e = 0; e < out[r]; ++e) {
      Id const n = kept[static_cast<std::size_t>(out_at[r] + e)];
      x.blocks.sent[r] += n;
      chunk_of(out[r], e).sent[r] += n;
    }
    for (index_t e = 0; e < mine.count; ++e) {
      Id const n = counts[r * static_cast<std::size_t>(mine.count) + static_cast<std::size_t>(e)];
      detail::check_received_count(comm.rank(), static_cast<int>(r), n, x.rows);
      x.blocks.received[r] += n;
      chunk_of(mine.count, e).received[r] += n;
      x.rows += n;
    }
  }
  x.blocks.lay_out();
  detail::lay_out_chunks(x.chunks, &RowBlocks::sent, &RowBlocks::sent_at, x.blocks.sent_at);
  detail::lay_out_chunks(
      x.chunks, &RowBlocks::received, &RowBlocks::received_at, x.blocks.received_at);
  x.offsets    = Tensor<Id, 1, ExecT>(exec, mine.count + 1);
  x.arrived_at = Tensor<Id, 1, ExecT>(exec, x.rows);
  x.row_of     = Tensor<Id, 1, ExecT>(exec, x.rows);
  if (all == 0) { exec.zero(x.offsets.view().data_handle(), x.offsets.bytes()); }
  exec.for_each_row(all,
                    detail::ArrivalRow<ExecT>{arriving.const_view(),
                                              P,
                                              mine.count,
                                              x.offsets.view(),
                                              x.arrived_at.view(),
                                              x.row_of.view()});
  return x;
}

}  // namespace moe
