#pragma once
// Capacity where experts are spread over ranks. A policy alone counts C slots per expert over all
// ranks, so that drops do not depend on how many there are; these two depend on it by their nature.
#include <string>

#include <moe/plan/drop_policy.hpp>
#include <moe/plan/slot_groups.hpp>

namespace moe {

// Each rank has C slots at every expert for its own tokens, counted from them alone (GShard, Tutel,
// Megatron-Core, DeepSpeed): P times C rows at most come together at an expert, and nothing is
// counted over ranks. At a world of one it is the policy itself.
template <class CapacityT>
struct PerRank : CapacityT {
  static_assert(CapacityPolicy<CapacityT> && CapacityT::bounded,
                "moe::PerRank: a bounded capacity policy, such as DropByPosition");
  static constexpr bool per_rank = true;
};
template <class CapacityT>
PerRank(CapacityT) -> PerRank<CapacityT>;

// The experts of one rank share C slots: what arrives at a rank, and so its memory, is bounded,
// while one of its experts may be asked for more than another. The rule counts C as if each of the
// P ranks were one expert, ceil(factor K T / P) with CeilCapacity; claims are served in the
// policy's order, over all tokens. PerRank{RankCapacity{...}} bounds what goes from each rank to
// each.
template <class CapacityT>
struct RankCapacity : CapacityT {
  index_t ranks = 0;  // P; 0: the communicator's

  static_assert(
      CapacityPolicy<CapacityT> && CapacityT::bounded && !CountsPerRank<CapacityT>,
      "moe::RankCapacity: a bounded capacity policy, such as DropByPosition; PerRank goes "
      "around it");

  [[nodiscard]] index_t shared_by(index_t ranks_there) const
  {
    return ranks > 0 ? ranks : ranks_there;
  }
  void check(Check const& c) const
  {
    CapacityT::check(c);
    c.at_least("RankCapacity.ranks", ranks, 0);
    c.at_most("RankCapacity.ranks", ranks, "what 16 bits could hold", 65535);
  }
};
template <class CapacityT>
RankCapacity(CapacityT) -> RankCapacity<CapacityT>;
template <class CapacityT>
RankCapacity(CapacityT, index_t) -> RankCapacity<CapacityT>;
template <class CapacityT>
RankCapacity(CapacityT, int) -> RankCapacity<CapacityT>;

static_assert(CapacityPolicy<PerRank<DropByPosition<>>> &&
              CapacityPolicy<PerRank<RankCapacity<DropByWeight<>>>>);

}  // namespace moe
