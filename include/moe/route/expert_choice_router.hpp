#pragma once
// Expert choice: each expert takes its tokens, instead of each token its experts.
#include <bit>
#include <cmath>

#include <moe/route/route.hpp>

namespace moe {
namespace detail {

// Larger floats get smaller keys, so that an ascending sort puts the largest first; NaN last.
MOE_HOST_DEVICE inline std::uint32_t descending_key(float x)
{
  if (!(x == x)) { return 0xffffffffu; }
  auto const bits = std::bit_cast<std::uint32_t>(x);
  return (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7fffffffu;
}

// The softmax of one row of logits where only finite numbers count, as everywhere in route/.
template <Team G, class S>
MOE_HOST_DEVICE S row_max_logit(G team, Row<S const> z)
{
  S hi = -INFINITY;
  for (Id e = team.lane(); e < z.size(); e += team.size()) {
    hi = z[e] > hi ? z[e] : hi;
  }
  return team.max(hi);
}

template <class S>
MOE_HOST_DEVICE S exp_above(S z, S hi)  // exp(z - hi), with inf - inf as 0 and NaN as -inf
{
  if (!(z == z)) { return 0; }
  return z == hi ? S{1} : std::exp(z - hi);
}

// score (T, E) = softmax of the row, 0 for a token that takes no part
template <class S, class ExecT>
struct SoftmaxRow {
  RoutingInput<S, ExecT> in;
  View<S const, 2, ExecT> logits;
  View<S, 2, ExecT> score;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    auto const z = row(logits, t);
    S const hi   = row_max_logit(team, z);
    S sum        = 0;
    for (Id e = team.lane(); e < z.size(); e += team.size()) {
      sum += exp_above(z[e], hi);
    }
    sum = team.sum(sum);
    for (Id e = team.lane(); e < z.size(); e += team.size()) {
      score(t, e) = sum > 0 ? exp_above(z[e], hi) / sum : S{0};
    }
  }
};

// Sort key of the pair (expert e, token t) at e * T + t: expert above, then score, best first.
template <class S, class ExecT>
struct ExpertChoiceKeyRow {
  RoutingInput<S, ExecT> in;
  View<S const, 2, ExecT> score;      // (T, E)
  View<std::uint64_t, 1, ExecT> key;  // (E * T)
  View<Id, 1, ExecT> token;           // (E * T)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    for (index_t e = team.lane(); e < in.experts; e += team.size()) {
      bool const out   = !in.takes_part(t);
      auto const below = out ? 0xffffffffu : descending_key(static_cast<float>(score(t, e)));
      key(e * in.tokens + t)   = (static_cast<std::uint64_t>(e) << 32) | below;
      token(e * in.tokens + t) = static_cast<Id>(t);
    }
  }
};

// The first C pairs of every expert, keyed by token for the second sort.
template <class S, class ExecT>
struct TakeFirstRow {
  RoutingInput<S, ExecT> in;
  index_t slots;                           // C
  View<Id const, 1, ExecT> token;          // (E * T) sorted
  View<std::uint32_t, 1, ExecT> taken_by;  // (E * C)
  View<Id, 1, ExecT> expert;               // (E * C)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t e) const
  {
    for (index_t c = team.lane(); c < slots; c += team.size()) {
      taken_by(e * slots + c) = static_cast<std::uint32_t>(token(e * in.tokens + c));
      expert(e * slots + c)   = static_cast<Id>(e);
    }
  }
};

template <class S, class ExecT>
struct ExpertChoiceFillRow {
  RoutingInput<S, ExecT> in;
  View<S const, 2, ExecT> score;                 // (T, E)
  View<std::uint32_t const, 1, ExecT> taken_by;  // (A) ascending token
  View<Id const, 1, ExecT> expert;               // (A)
  RoutingView<S, ExecT> routing;

  // One row per token, and one more that closes the offsets.
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const from = first_of(t), to = first_of(t + 1);
    if (team.lane() == 0) { routing.offsets(t) = static_cast<Id>(from); }
    if (t == in.tokens) { return; }
    bool const goes = in.takes_part(t);
    for (index_t a = from + team.lane(); a < to; a += team.size()) {
      routing.token(a)  = static_cast<Id>(t);
      routing.expert(a) = goes ? expert(a) : no_expert;
      routing.weight(a) = goes ? score(t, expert(a)) : S{0};
    }
  }
  [[nodiscard]] MOE_HOST_DEVICE index_t first_of(index_t t) const
  {
    index_t lo = 0, hi = taken_by.extent(0);
    while (lo < hi) {
      index_t const mid = (lo + hi) / 2;
      if (static_cast<index_t>(taken_by(mid)) < t) {
        lo = mid + 1;
      } else {
        hi = mid;
      }
    }
    return lo;
  }
};

// p = softmax(z), w_a = p_{e(a)}: d_z_j = p_j ([j chosen] d_w_j - sum_a d_w_a p_{e(a)})
template <class S, class ExecT>
struct ExpertChoiceBackwardRow {
  RoutingInput<S, ExecT> in;
  View<S const, 2, ExecT> logits;    // (T, E)
  RoutingView<S, ExecT> routing;
  View<S const, 1, ExecT> d_weight;  // (A)
  View<S, 2, ExecT> d_logits;        // (T, E)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    if (!in.takes_part(t)) { return; }
    auto const z = row(logits, t);
    S const hi   = row_max_logit(team, z);
    S sum        = 0;
    for (Id e = team.lane(); e < z.size(); e += team.size()) {
      sum += exp_above(z[e], hi);
    }
    sum   = team.sum(sum);
    S dot = 0;
    for (index_t a = routing.offsets(t); a < routing.offsets(t + 1); ++a) {
      dot += d_weight(a) * routing.weight(a);
    }
    for (Id e = team.lane(); e < z.size(); e += team.size()) {
      if (sum > 0) { d_logits(t, e) -= dot * exp_above(z[e], hi) / sum; }
    }
    team.sync();
    if (team.lane() != 0) { return; }
    for (index_t a = routing.offsets(t); a < routing.offsets(t + 1); ++a) {
      d_logits(t, routing.expert(a)) += d_weight(a) * routing.weight(a);
    }
  }
};

}  // namespace detail

// Each expert takes the C = ceil(factor * T / E) tokens with the largest softmax score in its
// column, ties to the smaller token; a token gets as many experts as took it (Zhou et al. 2022).
// Perfectly balanced without a loss, but not causal: whether an expert takes a token depends on
// later ones.
struct ExpertChoice {
  double factor = 1;  // mean number of experts per token

  static constexpr bool stage_level = true;

  [[nodiscard]] index_t slots(index_t tokens, index_t experts) const
  {
    auto const c = std::ceil(factor * static_cast<double>(tokens) / static_cast<double>(experts));
    return c < static_cast<double>(tokens) ? static_cast<index_t>(c) : tokens;
  }
  [[nodiscard]] index_t assignments(index_t tokens, index_t experts) const
  {
    return tokens == 0 ? 0 : experts * slots(tokens, experts);
  }
  void check(Check const& check, index_t) const
  {
    check.that(std::isfinite(factor) && factor > 0, "ExpertChoice.factor", std::to_string(factor),
               "finite and above 0");
  }

  template <class ExecT, class CommT, class S>
  void route(ExecT const& exec,
             CommT const&,
             RoutingInput<S, ExecT> const& in,
             View<S const, 2, ExecT> logits,
             RoutingView<S, ExecT> routing) const
  {
    index_t const T = in.tokens, E = in.experts, C = slots(T, E);
    index_t const pairs = checked_mul("moe::ExpertChoice", "tokens x experts", T, E);
    Tensor<S, 2, ExecT> score(exec, T, E);
    Tensor<std::uint64_t, 1, ExecT> key(exec, pairs), key_sorted(exec, pairs);
    Tensor<Id, 1, ExecT> token(exec, pairs), token_sorted(exec, pairs);
    Tensor<std::uint32_t, 1, ExecT> taken_by(exec, E * C), by_sorted(exec, E * C);
    Tensor<Id, 1, ExecT> expert(exec, E * C), expert_sorted(exec, E * C);

    exec.for_each_row(T, detail::SoftmaxRow<S, ExecT>{in, logits, score.view()});
    exec.for_each_row(T,
                      detail::ExpertChoiceKeyRow<S, ExecT>{
                          in, score.const_view(), key.view(), token.view()});
    sort_pairs(exec, 32 + bits(E), key.view(), token.view(), key_sorted.view(), token_sorted.view());
    if (T > 0) {
      exec.for_each_row(E,
                        detail::TakeFirstRow<S, ExecT>{
                            in, C, token_sorted.const_view(), taken_by.view(), expert.view()});
    }
    // Experts ascend within a token, since the second sort is stable.
    sort_pairs(
        exec, bits(T), taken_by.view(), expert.view(), by_sorted.view(), expert_sorted.view());
    exec.for_each_row(T + 1,
                      detail::ExpertChoiceFillRow<S, ExecT>{in,
                                                            score.const_view(),
                                                            by_sorted.const_view(),
                                                            expert_sorted.const_view(),
                                                            routing});
  }

  template <class ExecT, class S>
  void route_backward(ExecT const& exec,
                      RoutingInput<S, ExecT> const& in,
                      View<S const, 2, ExecT> logits,
                      RoutingView<S, ExecT> routing,
                      View<S const, 1, ExecT> d_weight,
                      View<S, 2, ExecT> d_logits) const
  {
    exec.for_each_row(in.tokens,
                      detail::ExpertChoiceBackwardRow<S, ExecT>{
                          in, logits, routing, d_weight, d_logits});
  }

 private:
  static int bits(index_t n)
  {
    return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(n)));
  }
};

}  // namespace moe
