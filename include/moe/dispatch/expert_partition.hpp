#pragma once
// Which experts live at which rank, and which of a rank's experts belong to which chunk.
#include <moe/core/view.hpp>

namespace moe {

// Experts [first, first + count) of E.
struct ExpertRange {
  index_t first = 0;
  index_t count = 0;  // L
};

namespace detail {

// Run i of n things cut into `parts` runs that differ by one at most; with more parts than things
// some are empty.
[[nodiscard]] MOE_HOST_DEVICE constexpr ExpertRange part_of(index_t n, index_t parts, index_t i)
{
  index_t const first = n * i / parts, last = n * (i + 1) / parts;
  return {first, last - first};
}
// The run that thing i is in.
[[nodiscard]] MOE_HOST_DEVICE constexpr index_t part_with(index_t n, index_t parts, index_t i)
{
  return ((i + 1) * parts - 1) / n;
}

// 1 + 2 + 4 + 4 + ..., n of them.
[[nodiscard]] MOE_HOST_DEVICE constexpr index_t ramp(index_t n)
{
  return n < 3 ? (index_t{1} << n) - 1 : 4 * n - 5;
}
[[nodiscard]] MOE_HOST_DEVICE constexpr index_t first_of_chunk(index_t experts_here,
                                                               index_t chunks,
                                                               index_t chunk)
{
  index_t const half = chunks / 2, all = ramp(half) + ramp(chunks - half);
  index_t const before = chunk <= half ? ramp(chunk) : all - ramp(chunks - chunk);
  return (2 * experts_here * before + all) / (2 * all);
}

}  // namespace detail

// Rank r of P has a block of consecutive experts; blocks differ by one expert at most, and ranks
// beyond E have none.
[[nodiscard]] constexpr ExpertRange experts_of_rank(index_t experts, int ranks, int rank)
{
  return detail::part_of(experts, ranks, rank);
}

// Chunk c of a rank's L experts, by their local numbers. Chunks are to each other as 1 : 2 : 4 : 4
// ... 4 : 2 : 1 (rounded; some may be empty): nothing hides the first one's way to the experts and
// the last one's way home, and one that is at most twice the one before travels behind its work.
[[nodiscard]] MOE_HOST_DEVICE constexpr ExpertRange experts_of_chunk(index_t experts_here,
                                                                     index_t chunks,
                                                                     index_t chunk)
{
  index_t const first = detail::first_of_chunk(experts_here, chunks, chunk);
  return {first, detail::first_of_chunk(experts_here, chunks, chunk + 1) - first};
}
// The chunk of a rank's expert e.
[[nodiscard]] MOE_HOST_DEVICE constexpr index_t chunk_of_expert(index_t experts_here,
                                                                index_t chunks,
                                                                index_t e)
{
  index_t chunk = 0;
  while (detail::first_of_chunk(experts_here, chunks, chunk + 1) <= e) {
    ++chunk;
  }
  return chunk;
}

// The rank of expert e.
[[nodiscard]] MOE_HOST_DEVICE constexpr index_t rank_of_expert(index_t experts,
                                                               index_t ranks,
                                                               index_t e)
{
  return ((e + 1) * ranks - 1) / experts;
}

}  // namespace moe
