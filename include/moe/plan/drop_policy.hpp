#pragma once
// Bounded experts: which assignments are dropped when more than C arrive.
#include <moe/plan/capacity_rules.hpp>

namespace moe {
namespace detail {

// What all of them share: the rule that gives C.
template <class RuleT>
struct Bounded {
  RuleT rule{};

  static constexpr bool bounded = true;

  [[nodiscard]] index_t slots(RoutingShape s, index_t max_load) const
  {
    return clamp_to_load(rule(s, max_load), s);
  }
  [[nodiscard]] index_t slots_bound(RoutingShape s) const
  {
    return clamp_to_load(rule(s, std::numeric_limits<index_t>::max() / 2), s);
  }
  [[nodiscard]] bool needs_loads() const
  {
    if constexpr (requires { rule.needs_loads(); }) {
      return rule.needs_loads();
    } else {
      return false;
    }
  }
  void check(Check const& c) const { rule.check(c); }

 private:
  // An expert cannot get more than every assignment, so a factor of 16,384 needs no more memory.
  static index_t clamp_to_load(index_t c, RoutingShape s)
  {
    index_t const all = s.tokens * s.top_k;
    return c < all ? c : all;
  }
};

// Smaller for larger x; NaN and negative numbers after all others.
MOE_HOST_DEVICE inline std::uint64_t larger_first(float x)
{
  return x >= 0 ? 0x7fffffffu - (std::bit_cast<std::uint32_t>(x) & 0x7fffffffu) : 0x7fffffffu;
}
inline constexpr int larger_first_bits = 31;
inline constexpr int choice_bits       = 5;  // K up to 32

}  // namespace detail

// All first choices in token order, then all second ones, ... (GShard, Lepikhin et al. 2020; Tutel).
template <class RuleT = CeilCapacity>
struct DropByPosition : detail::Bounded<RuleT> {
  static constexpr int claim_bits = detail::choice_bits;
  MOE_HOST_DEVICE std::uint64_t claim(int k, float, float) const
  {
    return static_cast<std::uint64_t>(k);
  }
};
template <class RuleT>
DropByPosition(RuleT) -> DropByPosition<RuleT>;

// The largest weights keep their slots (Megatron-Core's `probs`).
template <class RuleT = CeilCapacity>
struct DropByWeight : detail::Bounded<RuleT> {
  static constexpr int claim_bits = detail::larger_first_bits;
  MOE_HOST_DEVICE std::uint64_t claim(int, float weight, float) const
  {
    return detail::larger_first(weight);
  }
};
template <class RuleT>
DropByWeight(RuleT) -> DropByWeight<RuleT>;

// Choice by choice, tokens with the largest best score first (V-MoE's batch-prioritised routing,
// Riquelme et al. 2021, section 4; Tutel's batch_prioritized_routing).
template <class RuleT = CeilCapacity>
struct DropByTokenPriority : detail::Bounded<RuleT> {
  static constexpr int claim_bits = detail::choice_bits + detail::larger_first_bits;
  MOE_HOST_DEVICE std::uint64_t claim(int k, float, float row_max) const
  {
    return (static_cast<std::uint64_t>(k) << detail::larger_first_bits) |
           detail::larger_first(row_max);
  }
};
template <class RuleT>
DropByTokenPriority(RuleT) -> DropByTokenPriority<RuleT>;

static_assert(CapacityPolicy<DropByPosition<>> && CapacityPolicy<DropByWeight<>> &&
              CapacityPolicy<DropByTokenPriority<>>);

}  // namespace moe
