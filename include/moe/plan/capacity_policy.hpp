#pragma once
// Contract: how many assignments an expert takes, and which of them when more arrive.
#include <concepts>
#include <cstdint>
#include <type_traits>

#include <moe/core/error.hpp>

namespace moe {

struct RoutingShape {
  index_t tokens  = 0;  // T, over all ranks; of this one with PerRank
  index_t experts = 0;  // E; with RankCapacity P
  index_t top_k   = 0;  // K
};

template <class P>
concept NamesBound = requires { typename std::bool_constant<P::bounded>; };

// slots(shape, max_load) is C. `max_load` is the largest load of an expert, known only to the
// device: a policy that needs_loads() costs a synchronisation with the host. slots_bound(shape) is
// what C can be at most whatever the loads.
template <class P>
concept HasSlots = requires(P const p, RoutingShape s, index_t max_load) {
  { p.slots(s, max_load) } -> std::same_as<index_t>;
  { p.slots_bound(s) } -> std::same_as<index_t>;
  { p.needs_loads() } -> std::same_as<bool>;
};

// Claims are served by ascending key, ties by position (t, k): claim(k, weight, row_max) of the
// k-th choice, with its weight and the largest score of its token. Only the low claim_bits count;
// the expert, in up to 16 bits, is sorted above them.
inline constexpr int max_claim_bits = 48;

template <class P>
concept NamesClaimBits = requires { typename std::bool_constant<(P::claim_bits >= 0)>; } &&
                         (P::claim_bits >= 0 && P::claim_bits <= max_claim_bits);

template <class P>
concept HasClaim = NamesClaimBits<P> && requires(P const p, int k, float weight, float row_max) {
  { p.claim(k, weight, row_max) } -> std::same_as<std::uint64_t>;
};

template <class P>
concept CapacityPolicy = std::is_trivially_copyable_v<P> && NamesBound<P> &&
                         (!P::bounded || (HasSlots<P> && HasClaim<P>));

// Nothing is dropped; experts get ragged batches (MegaBlocks' dMoE; Gale et al. 2022).
struct Dropless {
  static constexpr bool bounded = false;
};
static_assert(CapacityPolicy<Dropless>);

}  // namespace moe
