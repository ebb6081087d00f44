#pragma once
// A policy of the layer: what is summed over tokens has the same bits for every number of ranks.
#include <moe/comm/sum_blocks.hpp>

namespace moe {

struct reduction_kind {};  // what tells Layer's arguments apart

// Gate and shared expert work block by block of tokens, with the library's own products (the
// experts too); their gradients and the losses' values are sums of the blocks' own in the order of
// the whole batch. Then gradients, losses and d_logits have the same bits for every number of ranks
// that hold whole blocks; only the last rank with tokens may end within one. `backward` itself sums
// over the ranks, so that each micro-batch adds what one rank would; all_reduce_gradients has
// nothing to do. Costs, beside the slower products: memory for a gradient of gate and shared expert
// per block of this rank, and, with several ranks, a wait for the device in forward.
struct ReproducibleReduction {
  using kind    = reduction_kind;
  index_t block = 1024;  // tokens

  void check(Check const& check) const { check.at_least("block", block, 1); }
};

// For a layer without it: each rank sums over its own tokens, then over the ranks.
struct RankByRank {
  using kind = reduction_kind;
};

}  // namespace moe
