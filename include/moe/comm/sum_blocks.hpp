#pragma once
// Sums over tokens that do not depend on how many ranks share them: partial sums over fixed blocks
// of tokens, added in the order of the whole batch's blocks. Ranks hold whole blocks, one after the
// other; one rank alone takes the same blocks. The layer's ReproducibleReduction sums so, and so
// can a program the gradients of what it has beside the layer.
#include <algorithm>
#include <vector>

#include <moe/comm/communication_error.hpp>
#include <moe/comm/communicator.hpp>
#include <moe/core/team.hpp>
#include <moe/core/tensor.hpp>

namespace moe {

// How many blocks of tokens there are at this rank, and the most at any.
struct BlockCounts {
  index_t here = 0, most = 0;
};

namespace detail {

[[nodiscard]] constexpr index_t token_blocks(index_t tokens, index_t block)
{
  return tokens / block + (tokens % block > 0 ? 1 : 0);
}

// `tokens` (P): whole blocks at every rank but the last that has any. Every rank throws the same.
inline void check_whole_blocks(char const* operation,
                               std::vector<index_t> const& tokens,
                               index_t block)
{
  std::size_t last = tokens.size();
  while (last > 0 && tokens[last - 1] == 0) {
    --last;
  }
  for (std::size_t r = 0; r + 1 < last; ++r) {
    if (tokens[r] % block != 0) {
      throw CommunicationError(operation,
                               "tokens",
                               text_of(tokens[r]),
                               joined({"a multiple of the reduction's block (",
                                       text_of(block),
                                       ") at every rank but the last that has tokens"}),
                               static_cast<int>(r),
                               0);
    }
  }
}

inline constexpr index_t fold_columns  = 128;               // of one row of a launch
inline constexpr index_t fold_elements = index_t{1} << 20;  // that travel at a time, about

// send (P, most, width): what each rank is to add up, its `width` columns of my blocks; rows beyond
// my blocks are zeros, which change no sum that starts from +0.
template <class S, class ExecT>
struct PackBlocksRow {
  View<S const, 2, ExecT> partials;  // (B, n)
  index_t most, width, first;        // first: the first rank's first column
  S* send;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    index_t const b = i % most, from = first + i / most * width;
    for (index_t j = team.lane(); j < width; j += team.size()) {
      bool const live     = b < partials.extent(0) && from + j < partials.extent(1);
      send[i * width + j] = live ? partials(b, from + j) : S{0};
    }
  }
};

// sum (columns) = rows (count, columns), from the first row on. A row of the launch is some
// columns.
template <class S>
struct FoldRowsRow {
  S const* rows;
  index_t count, columns;
  S* sum;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t part) const
  {
    index_t const begin = part * fold_columns;
    index_t const end   = begin + fold_columns < columns ? begin + fold_columns : columns;
    for (index_t j = begin + team.lane(); j < end; j += team.size()) {
      S s = 0;
      for (index_t i = 0; i < count; ++i) {
        s += rows[i * columns + j];
      }
      sum[j] = s;
    }
  }
};

template <class ExecT, class S>
void fold_rows(ExecT const& exec, S const* rows, index_t count, index_t columns, S* sum)
{
  exec.for_each_row(token_blocks(columns, fold_columns), FoldRowsRow<S>{rows, count, columns, sum});
}

}  // namespace detail

// Collective where there are several ranks, and then waits for the device. Refuses ranks whose
// tokens are no whole blocks, but for the last that has any: every rank throws the same.
template <class ExecT, class CommT>
[[nodiscard]] BlockCounts count_blocks(ExecT const& exec,
                                       CommT const& comm,
                                       index_t tokens,
                                       index_t block,
                                       char const* operation = "moe::count_blocks")
{
  Check const check{operation, comm.rank()};
  check.at_least("block", block, 1);
  check.at_least("tokens", tokens, 0);
  BlockCounts counts{detail::token_blocks(tokens, block), detail::token_blocks(tokens, block)};
  if (comm.size() == 1) { return counts; }
  Tensor<index_t, 1, ExecT> send(exec, 1), receive(exec, comm.size());
  std::vector<index_t> all(static_cast<std::size_t>(comm.size()));
  exec.copy_from_host(send.view().data_handle(), &tokens, sizeof(tokens));
  comm.all_gather(exec, send.const_view(), receive.view());
  detail::wait_for_ranks(exec, comm);
  exec.copy_to_host(all.data(), receive.view().data_handle(), all.size() * sizeof(index_t));
  detail::check_whole_blocks(operation, all, block);
  for (index_t const t : all) {
    counts.most = std::max(counts.most, detail::token_blocks(t, block));
  }
  return counts;
}

// What sum_blocks_over_ranks works in, for n columns: bounded, whatever n is.
template <class S, class ExecT>
struct BlockSumWork {
  BlockSumWork() = default;
  BlockSumWork(ExecT const& exec, int ranks, BlockCounts counts, index_t n)
  {
    if (ranks == 1 || counts.most == 0 || n == 0) { return; }
    width = std::clamp<index_t>(
        detail::fold_elements / (ranks * counts.most), 1, detail::token_blocks(n, ranks));
    send    = Tensor<S, 1, ExecT>(exec, ranks * counts.most * width);
    receive = Tensor<S, 1, ExecT>(exec, ranks * counts.most * width);
    sum     = Tensor<S, 1, ExecT>(exec, width);
    sums    = Tensor<S, 1, ExecT>(exec, ranks * width);
  }
  index_t width = 0;                  // columns that a rank adds up at a time
  Tensor<S, 1, ExecT> send, receive;  // (P, most, width)
  Tensor<S, 1, ExecT> sum, sums;      // (width), (P, width)
};

// total (n) = the partials (B, n) of all ranks, B = counts.here of them at this one, added from the
// first rank's first block to the last one's last; every rank gets the same bits. Collective.
template <class ExecT, class CommT, class S>
void sum_blocks_over_ranks(ExecT const& exec,
                           CommT const& comm,
                           BlockCounts counts,
                           std::type_identity_t<View<S const, 2, ExecT>> partials,
                           View<S, 1, ExecT> total,
                           BlockSumWork<S, ExecT>& work)
{
  index_t const n = total.extent(0), P = comm.size(), rows = P * counts.most;
  Check const check{"moe::sum_blocks_over_ranks", comm.rank()};
  check.equal("rows of partials", partials.extent(0), "blocks of this rank", counts.here);
  check.equal("columns of partials", partials.extent(1), "columns of total", n);
  S* const to = total.data_handle();
  if (n == 0) { return; }
  if (work.width == 0) {  // one rank, or no token anywhere
    return detail::fold_rows(exec, partials.data_handle(), counts.here, n, to);
  }
  for (index_t first = 0; first < n; first += P * work.width) {
    exec.for_each_row(
        rows,
        detail::PackBlocksRow<S, ExecT>{
            partials, counts.most, work.width, first, work.send.view().data_handle()});
    comm.all_to_all(exec, work.send.const_view(), work.receive.view());
    S* const sum = work.sum.view().data_handle();
    detail::fold_rows(exec, work.receive.const_view().data_handle(), rows, work.width, sum);
    comm.all_gather(exec, work.sum.const_view(), work.sums.view());
    exec.copy(to + first,
              work.sums.const_view().data_handle(),
              static_cast<std::size_t>(std::min(n - first, P * work.width)) * sizeof(S));
  }
}

// The same with memory of its own.
template <class ExecT, class CommT, class S>
void sum_blocks_over_ranks(ExecT const& exec,
                           CommT const& comm,
                           BlockCounts counts,
                           std::type_identity_t<View<S const, 2, ExecT>> partials,
                           View<S, 1, ExecT> total)
{
  BlockSumWork<S, ExecT> work(exec, comm.size(), counts, total.extent(0));
  sum_blocks_over_ranks(exec, comm, counts, partials, total, work);
}

}  // namespace moe
