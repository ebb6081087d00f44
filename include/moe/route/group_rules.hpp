#pragma once
// Which experts of a row may be chosen: all, or only those of its best groups of neighbours.
#include <cstdint>
#include <type_traits>

#include <moe/core/error.hpp>
#include <moe/route/row_math.hpp>

namespace moe {

inline constexpr int max_groups = 64;

struct ungrouped {
  template <int K, Team G, class ScoreF>
  MOE_HOST_DEVICE Array<Id, K> select(G team, Id experts, ScoreF const& score) const
  {
    return top_k<K>(team, experts, score);
  }
  template <int K>
  void check(Check const&, index_t) const
  {
  }
};

namespace detail {

// Of up to N values: the sum of the `count` largest.
template <int N, class ScoreF>
MOE_HOST_DEVICE auto sum_of_largest(int count, Id n, ScoreF const& score)
{
  using S = decltype(score(Id{}));
  Largest<N, S> largest;
  for (Id i = 0; i < n; ++i) {
    largest.insert(finite_logit(score(i)), i);
  }
  S sum = 0;
  for (int k = 0; k < N; ++k) {
    sum += k < count && k < n ? largest.value[k] : S{0};
  }
  return finite_logit(sum);
}

}  // namespace detail

// A group's score: its two best (DeepSeek-V3), its best (DeepSeek-V2), or its best K / kept, the
// share of a kept group in the choice (Megatron-LM's group_limited_topk).
struct top2_sum {
  static constexpr bool divides_top_k = false;
  template <int K, class ScoreF>
  MOE_HOST_DEVICE static auto of(int, Id n, ScoreF const& score)
  {
    return detail::sum_of_largest<2>(2, n, score);
  }
};
struct group_maximum {
  static constexpr bool divides_top_k = false;
  template <int K, class ScoreF>
  MOE_HOST_DEVICE static auto of(int, Id n, ScoreF const& score)
  {
    return detail::sum_of_largest<1>(1, n, score);
  }
};
struct top_k_share_sum {
  static constexpr bool divides_top_k = true;
  template <int K, class ScoreF>
  MOE_HOST_DEVICE static auto of(int kept, Id n, ScoreF const& score)
  {
    return detail::sum_of_largest<K>(K / kept, n, score);
  }
};

// What experts of the other groups count as. With 0, which Hugging Face's DeepSeek code had, they
// win over kept experts whose biased score is negative; name it only to reproduce that.
struct minus_infinity {
  static constexpr bool excludes = true;
};
struct zero_hf_compat {
  static constexpr bool excludes = false;
};

// Experts e in [g E/groups, (g+1) E/groups) form group g; only the `kept` best groups take part.
template <class ScoreOfGroup, class MaskT = minus_infinity>
struct group_limited {
  static_assert(std::is_same_v<MaskT, minus_infinity> || std::is_same_v<MaskT, zero_hf_compat>,
                "moe::group_limited: its mask is minus_infinity, or zero_hf_compat where a published "
                "model needs it");
  int groups = 1;
  int kept   = 1;

  template <int K, Team G, class ScoreF>
  MOE_HOST_DEVICE Array<Id, K> select(G team, Id experts, ScoreF const& score) const
  {
    using S       = decltype(score(Id{}));
    Id const size = experts / groups;
    S of_group[max_groups];  // each lane fills and reads its own groups
    for (Id g = team.lane(); g < groups; g += team.size()) {
      of_group[g] =
          ScoreOfGroup::template of<K>(kept, size, [&](Id i) { return score(g * size + i); });
    }
    std::uint64_t is_kept = 0;
    for (int round = 0; round < kept; ++round) {
      S best  = -INFINITY;
      Id here = detail::no_column;
      for (Id g = team.lane(); g < groups; g += team.size()) {
        if ((is_kept >> g & 1) == 0 && of_group[g] > best) {
          best = of_group[g];
          here = g;
        }
      }
      is_kept |= std::uint64_t{1} << (team.arg_max(best, here) & (max_groups - 1));
    }
    constexpr S other = MaskT::excludes ? -infinity<S> : S{0};
    return top_k<K>(
        team, experts, [&](Id e) { return (is_kept >> (e / size) & 1) != 0 ? score(e) : other; });
  }

  template <int K>
  void check(Check const& check, index_t experts) const
  {
    check.at_least("group.groups", groups, 1);
    check.at_most("group.groups", groups, "max_groups", max_groups);
    check.that(experts % groups == 0, "group.groups", groups, "a divisor of experts");
    check.at_least("group.kept", kept, 1);
    check.at_most("group.kept", kept, "group.groups", groups);
    if constexpr (MaskT::excludes) {
      check.at_most("top_k", K, "experts of the kept groups", kept * (experts / groups));
    }
    if constexpr (ScoreOfGroup::divides_top_k) {
      check.that(K % kept == 0, "group.kept", kept, "a divisor of top_k");
    }
  }
};

}  // namespace moe
