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

}  // namespace detail

// Rank r of P has a block of consecutive experts; blocks differ by one expert at most, and ranks
// beyond E have none.
[[nodiscard]] constexpr ExpertRange experts_of_rank(index_t experts, int ranks, int rank)
{
  return detail::part_of(experts, ranks, rank);
}

// Chunk c of a rank's L experts, by their local numbers.
[[nodiscard]] MOE_HOST_DEVICE constexpr ExpertRange experts_of_chunk(index_t experts_here,
                                                                     index_t chunks,
                                                                     index_t chunk)
{
  return detail::part_of(experts_here, chunks, chunk);
}

// The rank of expert e.
[[nodiscard]] MOE_HOST_DEVICE constexpr index_t rank_of_expert(index_t experts,
                                                               index_t ranks,
                                                               index_t e)
{
  return ((e + 1) * ranks - 1) / experts;
}

}  // namespace moe
