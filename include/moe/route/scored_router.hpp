#pragma once
// Routers that weight the chosen experts by a score of every logit: most published ones are this
// with other parameters.
#include <moe/route/group_rules.hpp>
#include <moe/route/router.hpp>
#include <moe/route/scores.hpp>

namespace moe {

class Host;

// score (softmax, sigmoid, sqrt-softplus) -> + bias, for the selection only -> groups -> K best ->
// the unbiased scores of those -> normalised -> times scale:
//   chosen = top-K of s_e + bias_e over allowed e,   w_k = scale s_k / (|s_chosen| + epsilon)
// SpaceT: whose memory the bias is in, the space that the layer runs in.
template <int K,
          class ScoreT,
          class NormT  = unnormalized,
          class GroupT = ungrouped,
          class SpaceT = Host>
struct ScoredTopK {
  static_assert(K >= 1 && K <= max_top_k, "moe: top_k is between 1 and 32");
  static_assert(
      K > 1 || !NormT::renormalizes,
      "moe: top_k = 1 with renormalised weights gives weight 1 always, so the router gets "
      "no gradient: use unnormalized");
  static constexpr int top_k = K;
  using bias_space           = SpaceT;

  double scale   = 1;                   // routed scaling factor
  double epsilon = 0;                   // of the normalisation
  View<float const, 1, SpaceT> bias{};  // (E) or empty; gets no gradient (selection_bias.hpp)
  GroupT group{};

  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE Choice<K, S> route(G team, RowContext const&, Row<S const> logits) const
  {
    auto const score_of = ScoreT::of(team, logits);
    Choice<K, S> c;
    c.expert = select(team, score_of, logits);
    Array<S, K> score{};
    for (int k = 0; k < K; ++k) {
      score[k] = score_of(logits[c.expert[k]]);
    }
    c.weight = NormT::weights(score, static_cast<S>(epsilon));
    for (int k = 0; k < K; ++k) {
      c.weight[k] *= static_cast<S>(scale);
    }
    return c;
  }

  // ChoosesByLogits (router.hpp): every score grows with its logit.
  static constexpr bool weighs_all = ScoreT::sums_to_one;
  [[nodiscard]] bool chooses_by_logits() const
    requires std::is_same_v<GroupT, ungrouped>
  {
    return bias.extent(0) == 0;
  }
  template <RoutingScalar S>
  [[nodiscard]] MOE_HOST_DEVICE auto scores(RowSoftmax<S> const& softmax) const
  {
    return ScoreT::of(softmax);
  }
  template <class OfT, RoutingScalar S>
  struct ScaledWeight {
    OfT of;
    S scale;
    [[nodiscard]] MOE_HOST_DEVICE S operator()(int, S score) const { return of(score) * scale; }
  };
  template <RoutingScalar S>
  [[nodiscard]] MOE_HOST_DEVICE auto weights(Array<S, K> const& score) const
    requires requires { NormT::of(score, S{}); }
  {
    auto const of = NormT::of(score, static_cast<S>(epsilon));
    return ScaledWeight<std::remove_const_t<decltype(of)>, S>{of, static_cast<S>(scale)};
  }

  // NormT gives d_log_s of the chosen; then
  //   d_z_j += log_slope_j d_log_s_j                         j chosen
  //   d_z_j -= s_j sum_k d_log_s_k                           every j, if the scores sum to one
  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE void route_backward(G team,
                                      RowContext const&,
                                      Row<S const> logits,
                                      Choice<K, S> const& c,
                                      Array<S, K> const& d_weight,
                                      Row<S> d_logits) const
  {
    auto const score_of = ScoreT::of(team, logits);
    Array<S, K> score{}, d_scaled{};
    for (int k = 0; k < K; ++k) {
      score[k]    = score_of(logits[c.expert[k]]);
      d_scaled[k] = static_cast<S>(scale) * d_weight[k];
    }
    auto const d_log_score = NormT::backward(score, static_cast<S>(epsilon), d_scaled);
    S sum                  = 0;
    for (int k = 0; k < K; ++k) {
      Id const e = c.expert[k];
      sum += d_log_score[k];
      if (detail::owns_column(team, e) && is_finite(logits[e])) {
        d_logits[e] += score_of.log_slope(logits[e]) * d_log_score[k];
      }
    }
    if constexpr (ScoreT::sums_to_one) {
      for (Id e = team.lane(); e < logits.size(); e += team.size()) {
        d_logits[e] -= is_finite(logits[e]) ? score_of(logits[e]) * sum : S{0};
      }
    }
  }

  void check(Check const& check, index_t experts) const
  {
    check.at_most("top_k", K, "experts", experts);
    check.that(std::isfinite(scale), "scale", scale, "finite");
    check.that(std::isfinite(epsilon) && epsilon >= 0, "epsilon", epsilon, "finite and at least 0");
    if (bias.extent(0) != 0) { check.equal("bias", bias.extent(0), "experts", experts); }
    check.not_null("bias", bias);
    group.template check<K>(check, experts);
  }

 private:
  template <Team G, RoutingScalar S, class ScoreOf>
  MOE_HOST_DEVICE Array<Id, K> select(G team, ScoreOf const& score_of, Row<S const> logits) const
  {
    if (bias.extent(0) != 0) {
      return group.template select<K>(
          team, logits.size(), [&](Id e) { return score_of(logits[e]) + static_cast<S>(bias(e)); });
    }
    if constexpr (std::is_same_v<GroupT, ungrouped>) {
      // Every score grows with its logit; the logits cost no exp and saturate nowhere.
      return moe::top_k<K>(team, logits.size(), [&](Id e) { return logits[e]; });
    } else {
      return group.template select<K>(
          team, logits.size(), [&](Id e) { return score_of(logits[e]); });
    }
  }
};

// p = softmax(z) over all experts. renormalized: Mixtral, Qwen3, DBRX, and ERNIE-4.5 with a bias;
// unnormalized: OLMoE, Qwen2-MoE, and DeepSeek-V2 with scale 16 and group_limited<group_maximum>.
template <int K, class NormT = unnormalized, class GroupT = ungrouped, class SpaceT = Host>
using SoftmaxTopK = ScoredTopK<K, softmax_score, NormT, GroupT, SpaceT>;

// Switch Transformer (Fedus et al. 2021, eq. 1 and 2): the best expert, weighted by its
// probability.
using SwitchRouter = SoftmaxTopK<1, unnormalized>;

// s = sigmoid(z). DeepSeek-V3: <8, renormalized, group_limited<top2_sum>>, .scale = 2.5, a bias, 4
// of 8 groups; Kimi K2, GLM-4.5, MiniMax-M2 without groups; Llama 4: <1, unnormalized>.
template <int K, class NormT = unnormalized, class GroupT = ungrouped, class SpaceT = Host>
using SigmoidTopK = ScoredTopK<K, sigmoid_score, NormT, GroupT, SpaceT>;

// s = sqrt(ln(1 + exp z)) (DeepSeek-V4)
template <int K, class NormT = unnormalized, class GroupT = ungrouped, class SpaceT = Host>
using SqrtSoftplusTopK = ScoredTopK<K, sqrt_softplus_score, NormT, GroupT, SpaceT>;

static_assert(RowRouter<SoftmaxTopK<2, renormalized>>);
static_assert(ChoosesByLogits<SoftmaxTopK<2, renormalized>> &&
              !ChoosesByLogits<SigmoidTopK<8, renormalized, group_limited<top2_sum>>>);
static_assert(RowRouter<SwitchRouter>);
static_assert(RowRouter<SigmoidTopK<8, renormalized, group_limited<top2_sum>>>);
static_assert(RowRouter<SqrtSoftplusTopK<6, renormalized>>);

}  // namespace moe
