#pragma once
// Softmax after the choice.
#include <moe/core/error.hpp>
#include <moe/route/router.hpp>
#include <moe/route/row_math.hpp>

namespace moe {

// The K largest logits, weighted by a softmax over just those K (Shazeer et al. 2017, eq. 3 and 5
// without noise; GPT-OSS, Granite, Megatron-LM's default):
//   w_k = exp(z_k) / sum_j in chosen exp(z_j)
// As numbers the same as SoftmaxTopK<K, renormalized>.
template <int K>
struct TopKSoftmax {
  static_assert(K >= 1 && K <= max_top_k, "moe: top_k is between 1 and 32");
  static_assert(K > 1,
                "moe: top_k = 1 with a softmax over the chosen logit gives weight 1 always, so the "
                "router gets no gradient: use SoftmaxTopK with unnormalized");
  static constexpr int top_k = K;

  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE Choice<K, S> route(G team, RowContext const&, Row<S const> logits) const
  {
    Choice<K, S> c;
    c.expert = moe::top_k<K>(team, logits.size(), [&](Id e) { return logits[e]; });
    Array<S, K> value{};
    for (int k = 0; k < K; ++k) {
      value[k] = logits[c.expert[k]];
    }
    c.weight = detail::softmax_of_chosen(value);
    return c;
  }

  // ChoosesByLogits (router.hpp)
  static constexpr bool weighs_all = false;
  [[nodiscard]] static constexpr bool chooses_by_logits() { return true; }
  template <RoutingScalar S>
  struct Logit {
    [[nodiscard]] MOE_HOST_DEVICE S operator()(S z) const { return z; }
  };
  template <RoutingScalar S>
  [[nodiscard]] MOE_HOST_DEVICE static Logit<S> scores(RowSoftmax<S> const&)
  {
    return {};
  }
  template <RoutingScalar S>
  struct WeightOf {
    Array<S, K> w;
    [[nodiscard]] MOE_HOST_DEVICE S operator()(int k, S) const
    {
      S of_k = w[0];
      for (int i = 1; i < K; ++i) {  // a choice of values, not of places: these are in registers
        S const of_i = w[i];
        if (i == k) { of_k = of_i; }
      }
      return of_k;
    }
  };
  template <RoutingScalar S>
  [[nodiscard]] MOE_HOST_DEVICE static WeightOf<S> weights(Array<S, K> const& logit)
  {
    return {detail::softmax_of_chosen(logit)};
  }

  // d_z_k = w_k (d_w_k - sum_j d_w_j w_j); the others get none
  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE void route_backward(G team,
                                      RowContext const&,
                                      Row<S const> logits,
                                      Choice<K, S> const& c,
                                      Array<S, K> const& d_weight,
                                      Row<S> d_logits) const
  {
    auto const d = detail::softmax_of_chosen_backward(c.weight, d_weight);
    for (int k = 0; k < K; ++k) {
      Id const e = c.expert[k];
      if (detail::owns_column(team, e) && is_finite(logits[e])) { d_logits[e] += d[k]; }
    }
  }

  void check(Check const& check, index_t experts) const
  {
    check.at_most("top_k", K, "experts", experts);
  }
};
static_assert(RowRouter<TopKSoftmax<2>> && ChoosesByLogits<TopKSoftmax<2>>);

}  // namespace moe
