#pragma once
// Bounded experts: which assignments are dropped when more than C arrive.
#include <bit>

#include <moe/core/element.hpp>
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
  // An expert cannot get more than every assignment, so a factor of 16,384 needs no more memory
  // than the factor E. What was aligned stays aligned.
  [[nodiscard]] index_t clamp_to_load(index_t c, RoutingShape s) const
  {
    index_t all = checked_mul("moe::CapacityPolicy", "tokens x top_k", s.tokens, s.top_k);
    if constexpr (requires { rule.alignment; }) { all = round_up(all, rule.alignment); }
    return c < all ? c : all;
  }
};

// Smaller for larger x, equal for the two zeros; NaN comes last.
MOE_HOST_DEVICE inline std::uint64_t larger_first(float x)
{
  auto const bits = bit_cast<std::uint32_t>(x);
  if (x >= 0) { return 0x7fffffffu - (bits & 0x7fffffffu); }
  return x < 0 ? bits : 0xffffffffu;
}
inline constexpr int larger_first_bits = 32;

// Choice k in choice_bits. K is at most 32; where the number of choices varies, those of a token
// are in the order of experts and not of rank, and all past the 32nd claim together.
MOE_HOST_DEVICE inline std::uint64_t choice_rank(int k)
{
  return static_cast<std::uint64_t>(k < 31 ? k : 31);
}
inline constexpr int choice_bits = 5;

}  // namespace detail

// All first choices in token order, then all second ones, ... (GShard, Lepikhin et al. 2020;
// Tutel).
template <class RuleT = CeilCapacity>
struct DropByPosition : detail::Bounded<RuleT> {
  static constexpr int claim_bits = detail::choice_bits;
  MOE_HOST_DEVICE std::uint64_t claim(int k, float, float) const { return detail::choice_rank(k); }
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
    return (detail::choice_rank(k) << detail::larger_first_bits) | detail::larger_first(row_max);
  }
};
template <class RuleT>
DropByTokenPriority(RuleT) -> DropByTokenPriority<RuleT>;

static_assert(CapacityPolicy<DropByPosition<>> && CapacityPolicy<DropByWeight<>> &&
              CapacityPolicy<DropByTokenPriority<>>);

}  // namespace moe
