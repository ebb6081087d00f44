#pragma once
// Which experts live at which rank.
#include <moe/core/view.hpp>

namespace moe {

// Experts [first, first + count) of E.
struct ExpertRange {
  index_t first = 0;
  index_t count = 0;  // L
};

// Rank r of P has a block of consecutive experts; blocks differ by one expert at most, and ranks
// beyond E have none.
[[nodiscard]] constexpr ExpertRange experts_of_rank(index_t experts, int ranks, int rank)
{
  index_t const first = experts * rank / ranks, last = experts * (rank + 1) / ranks;
  return {first, last - first};
}

// The rank of expert e.
[[nodiscard]] MOE_HOST_DEVICE constexpr index_t rank_of_expert(index_t experts,
                                                               index_t ranks,
                                                               index_t e)
{
  return ((e + 1) * ranks - 1) / experts;
}

}  // namespace moe
