#pragma once
// Expert choice: each expert takes its tokens, of all ranks, instead of each token its experts.
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

#include <moe/core/search.hpp>
#include <moe/plan/serve_over_ranks.hpp>
#include <moe/route/route.hpp>
#include <moe/route/row_math.hpp>

namespace moe {
namespace detail {

// score (T, E) = softmax of the row, and the sort key of the pair (expert e, token t), which lies
// at e * T + t: expert above, then score, best first, then tokens that take no part.
template <class S, class ExecT>
struct ExpertChoiceKeyRow {
  RoutingInput<S, ExecT> in;
  View<S const, 2, ExecT> logits;     // (T, E)
  View<S, 2, ExecT> score;            // (T, E)
  View<std::uint64_t, 1, ExecT> key;  // (E * T)
  View<Id, 1, ExecT> value;           // (E * T) the token, or the pair over ranks
  index_t stride = 0;                 // T over ranks

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    auto const z       = row(logits, t);
    auto const softmax = row_softmax(team, z);
    bool const goes    = in.takes_part(t);
    for (index_t e = team.lane(); e < in.experts; e += team.size()) {
      score(t, e) = softmax(z[e]);
      // Floats in [0, 1] are ordered as their bits.
      auto const bits          = bit_cast<std::uint32_t>(static_cast<float>(score(t, e)));
      std::uint32_t const rank = goes ? 0x7fffffffu - bits : 0xffffffffu;
      key(e * in.tokens + t)   = (static_cast<std::uint64_t>(e) << 32) | rank;
      value(e * in.tokens + t) = static_cast<Id>(e * stride + t);
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

// The pairs that were served over all ranks, keyed by token; others come after all tokens.
template <class S, class ExecT>
struct TakeServedRow {
  RoutingInput<S, ExecT> in;
  View<std::uint32_t const, 1, ExecT> served_by;  // (E * T) expert, or E
  View<std::uint32_t, 1, ExecT> taken_by;         // (E * T)
  View<Id, 1, ExecT> expert;                      // (E * T)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    for (index_t e = team.lane(); e < in.experts; e += team.size()) {
      index_t const p   = e * in.tokens + t;
      bool const served = served_by(p) < static_cast<std::uint32_t>(in.experts);
      taken_by(p)       = static_cast<std::uint32_t>(served ? t : in.tokens);
      expert(p)         = static_cast<Id>(e);
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

  // One row per token, and one more that closes the offsets: what follows is of no token.
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const from = first_of(t), to = first_of(t + 1);
    if (team.lane() == 0) { routing.offsets(t) = static_cast<Id>(from); }
    bool const goes = t < in.tokens && in.takes_part(t);
    for (index_t a = from + team.lane(); a < to; a += team.size()) {
      routing.token(a)  = static_cast<Id>(t < in.tokens ? t : 0);
      routing.expert(a) = goes ? expert(a) : no_expert;
      routing.weight(a) = goes ? score(t, expert(a)) : S{0};
    }
  }

 private:
  [[nodiscard]] MOE_HOST_DEVICE index_t first_of(index_t t) const
  {
    return lower_bound(taken_by, static_cast<std::uint32_t>(t));
  }
};

// p = softmax(z), w_a = p_{e(a)}: d_z_j = p_j ([j chosen] d_w_j - sum_a d_w_a p_{e(a)})
template <class S, class ExecT>
struct ExpertChoiceBackwardRow {
  RoutingInput<S, ExecT> in;
  View<S const, 2, ExecT> logits;  // (T, E)
  ConstRoutingView<S, ExecT> routing;
  View<S const, 1, ExecT> d_weight;  // (A)
  View<S, 2, ExecT> d_logits;        // (T, E)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    if (!in.takes_part(t)) { return; }
    auto const z       = row(logits, t);
    auto const softmax = row_softmax(team, z);
    S dot              = 0;
    for (index_t a = routing.offsets(t); a < routing.offsets(t + 1); ++a) {
      dot += d_weight(a) * routing.weight(a);
    }
    for (Id e = team.lane(); e < z.size(); e += team.size()) {
      d_logits(t, e) -= is_finite(z[e]) ? dot * softmax(z[e]) : S{0};
    }
    for (index_t a = routing.offsets(t); a < routing.offsets(t + 1); ++a) {
      Id const e = routing.expert(a);
      if (owns_column(team, e) && is_finite(z[e])) {
        d_logits(t, e) += d_weight(a) * routing.weight(a);
      }
    }
  }
};

}  // namespace detail

// Each expert takes the C = ceil(factor * T / E) tokens with the largest softmax score in its
// column, compared as float, ties to the smaller token; a token gets as many experts as took it
// (Zhou et al. 2022). Masked tokens are taken by nobody, but count in T. Over ranks, T and the
// tokens to choose from are those of all ranks, and any E * T assignments may fall to one rank.
// Perfectly balanced without a loss, but not causal: whether an expert takes a token depends on
// later ones.
struct ExpertChoice {
  double factor = 1;  // mean number of experts per token

  static constexpr bool stage_level   = true;
  static constexpr bool fills_experts = true;

  [[nodiscard]] index_t slots(index_t tokens, index_t experts) const
  {
    auto const c = std::ceil(factor * static_cast<double>(tokens) / static_cast<double>(experts));
    return c < static_cast<double>(tokens) ? static_cast<index_t>(c) : tokens;
  }
  [[nodiscard]] index_t assignments(index_t tokens, index_t experts) const
  {
    return tokens == 0 ? 0 : experts * slots(tokens, experts);
  }
  [[nodiscard]] index_t assignments(index_t tokens, index_t experts, index_t ranks) const
  {
    return ranks == 1 ? assignments(tokens, experts)
                      : checked_mul("moe::ExpertChoice", "tokens x experts", tokens, experts);
  }
  void check(Check const& check, index_t) const
  {
    check.that(
        std::isfinite(factor) && factor > 0, "ExpertChoice.factor", factor, "finite and above 0");
  }

  template <class ExecT, class CommT, class S>
  void route(ExecT const& exec,
             CommT const& comm,
             RoutingInput<S, ExecT> const& in,
             View<S const, 2, ExecT> logits,
             RoutingView<S, ExecT> routing) const
  {
    index_t const T = in.tokens, E = in.experts, A = routing.expert.extent(0);
    index_t const pairs = checked_mul("moe::ExpertChoice", "tokens x experts", T, E);
    Tensor<S, 2, ExecT> score(exec, T, E);
    Tensor<std::uint64_t, 1, ExecT> key(exec, pairs), key_sorted(exec, pairs);
    Tensor<Id, 1, ExecT> value(exec, pairs), value_sorted(exec, pairs);
    Tensor<std::uint32_t, 1, ExecT> taken_by(exec, A), by_sorted(exec, A);
    Tensor<Id, 1, ExecT> expert(exec, A), expert_sorted(exec, A);

    exec.for_each_row(
        T,
        detail::ExpertChoiceKeyRow<S, ExecT>{
            in, logits, score.view(), key.view(), value.view(), comm.size() == 1 ? 0 : T});
    sort_pairs(
        exec, 32 + bits(E), key.view(), value.view(), key_sorted.view(), value_sorted.view());
    if (comm.size() == 1 && T > 0) {
      exec.for_each_row(
          E,
          detail::TakeFirstRow<S, ExecT>{
              in, slots(T, E), value_sorted.const_view(), taken_by.view(), expert.view()});
    }
    if constexpr (!AlwaysAlone<CommT>) {
      if (comm.size() > 1) {
        index_t const all = in.tokens_of_all < 0 ? T : in.tokens_of_all;
        Tensor<std::uint32_t, 1, ExecT> served_by(exec, pairs);
        detail::serve_over_ranks<32>(exec,
                                     comm,
                                     detail::SlotsOfExpert{static_cast<Id>(E)},
                                     slots(all, E),
                                     key_sorted.const_view(),
                                     value_sorted.const_view(),
                                     View<Id const, 1, ExecT>{},
                                     served_by.view());
        exec.for_each_row(T,
                          detail::TakeServedRow<S, ExecT>{
                              in, served_by.const_view(), taken_by.view(), expert.view()});
      }
    }
    // Experts ascend within a token, since the second sort is stable.
    sort_pairs(
        exec, bits(T), taken_by.view(), expert.view(), by_sorted.view(), expert_sorted.view());
    exec.for_each_row(
        T + 1,
        detail::ExpertChoiceFillRow<S, ExecT>{
            in, score.const_view(), by_sorted.const_view(), expert_sorted.const_view(), routing});
  }

  template <class ExecT, class S>
  void route_backward(ExecT const& exec,
                      RoutingInput<S, ExecT> const& in,
                      View<S const, 2, ExecT> logits,
                      ConstRoutingView<S, ExecT> routing,
                      View<S const, 1, ExecT> d_weight,
                      View<S, 2, ExecT> d_logits) const
  {
    exec.for_each_row(
        in.tokens,
        detail::ExpertChoiceBackwardRow<S, ExecT>{in, logits, routing, d_weight, d_logits});
  }

 private:
  static int bits(index_t n)
  {
    return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(n)));
  }
};

}  // namespace moe
