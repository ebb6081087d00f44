#pragma once
// What a profiler is told of rows that are stored at other ranks: only the device knows how many.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <moe/dispatch/once_per_rank.hpp>
#include <moe/dispatch/one_sided_window.hpp>

namespace moe::detail {

// Adds the bytes that left this rank in a pass: of tokens' rows, and of its experts' home.
template <class ExecT>
struct CountSentRow {
  View<Id const, 1, ExecT> goes_to;  // (most A)
  View<Id const, 1, ExecT> count;    // (P * L)
  index_t choices, chunks, experts;  // A, C, L
  index_t me;
  std::uint64_t row_bytes;
  std::uint64_t* sent;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    double rows       = 0;
    index_t const end = (row + 1) * numbers_of_row;
    for (index_t i = row * numbers_of_row + team.lane(); i < end; i += team.size()) {
      if (i < choices && goes_to(i) >= 0 && goes_to(i) / chunks != me) { rows += 1; }
      if (i < count.extent(0) && i / experts != me) { rows += count(i); }
    }
    rows = team.sum(rows);
    if (team.lane() == 0 && rows > 0) { add(static_cast<std::uint64_t>(rows) * row_bytes); }
  }

 private:
  MOE_HOST_DEVICE void add(std::uint64_t bytes) const
  {
#if defined(__CUDA_ARCH__)
    atomicAdd(reinterpret_cast<unsigned long long*>(sent), bytes);
#else
    std::atomic_ref(*sent).fetch_add(bytes, std::memory_order_relaxed);
#endif
  }
};

template <class ExecT>
void count_sent(ExecT const& exec,
                OneSidedSlot<ExecT> const& slot,
                index_t choices,
                index_t chunks,
                std::size_t element_bytes)
{
  if constexpr (requires { exec.sent_there(); }) {
    std::uint64_t* const sent = exec.sent_there();
    if (sent == nullptr) { return; }
    exec.for_each_row(
        rows_of_numbers(std::max(choices, slot.count.extent(0))),
        CountSentRow<ExecT>{slot.goes_to.const_view(),
                            slot.count.const_view(),
                            choices,
                            chunks,
                            slot.experts(),
                            slot.window.view().rank,
                            static_cast<std::uint64_t>(slot.layout.width) * element_bytes,
                            sent});
  }
}

}  // namespace moe::detail
