#pragma once
// From logits to scores, and from the K chosen scores to weights.
#include <moe/route/row_math.hpp>

namespace moe {

// A score is a tag with of(team, logits), or of(softmax) of a row whose softmax is known if it sums
// to one, whose result gives score(z) >= 0 of a logit of that row and log_slope(z). Backward works
// on d_log_score = d_score * score, which stays finite where a score underflows:
//   d_z_j = log_slope(z_j) d_log_score_j, and - score_j sum_i d_log_score_i where the row's scores
//   are normalised (sums_to_one)

// p_e = exp(z_e) / sum_j exp(z_j)
struct softmax_score {
  static constexpr bool sums_to_one = true;

  template <RoutingScalar S>
  struct Of {
    RowSoftmax<S> softmax;
    [[nodiscard]] MOE_HOST_DEVICE S operator()(S z) const { return softmax(z); }
    [[nodiscard]] MOE_HOST_DEVICE S log_slope(S) const { return 1; }
  };
  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE static Of<S> of(G team, Row<S const> logits)
  {
    return {row_softmax(team, logits)};
  }
  template <RoutingScalar S>
  MOE_HOST_DEVICE static Of<S> of(RowSoftmax<S> const& softmax)
  {
    return {softmax};
  }
};

// s_e = 1 / (1 + exp(-z_e)); d log s / dz = 1 - s
struct sigmoid_score {
  static constexpr bool sums_to_one = false;

  template <RoutingScalar S>
  struct Of {
    [[nodiscard]] MOE_HOST_DEVICE S operator()(S z) const { return sigmoid(finite_logit(z)); }
    [[nodiscard]] MOE_HOST_DEVICE S log_slope(S z) const { return sigmoid(-finite_logit(z)); }
  };
  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE static Of<S> of(G, Row<S const>)
  {
    return {};
  }
  template <RoutingScalar S>
  MOE_HOST_DEVICE static Of<S> of(RowSoftmax<S> const&)
  {
    return {};
  }
};

// s_e = sqrt(ln(1 + exp(z_e))) (DeepSeek-V4); d log s / dz = sigmoid(z) / (2 s^2)
struct sqrt_softplus_score {
  static constexpr bool sums_to_one = false;

  template <RoutingScalar S>
  struct Of {
    [[nodiscard]] MOE_HOST_DEVICE S operator()(S z) const
    {
      return std::sqrt(softplus(finite_logit(z)));
    }
    [[nodiscard]] MOE_HOST_DEVICE S log_slope(S z) const
    {
      S const sp = softplus(finite_logit(z));
      return sp > 0 ? sigmoid(finite_logit(z)) / (S{2} * sp) : S(0.5);
    }
  };
  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE static Of<S> of(G, Row<S const>)
  {
    return {};
  }
  template <RoutingScalar S>
  MOE_HOST_DEVICE static Of<S> of(RowSoftmax<S> const&)
  {
    return {};
  }
};

// w = s
struct unnormalized {
  static constexpr bool renormalizes = false;

  template <RoutingScalar S>
  struct Of {
    [[nodiscard]] MOE_HOST_DEVICE S operator()(S score) const { return score; }
  };
  template <int K, RoutingScalar S>
  MOE_HOST_DEVICE static Of<S> of(Array<S, K> const&, S)
  {
    return {};
  }
  template <int K, RoutingScalar S>
  MOE_HOST_DEVICE static Array<S, K> weights(Array<S, K> const& score, S)
  {
    return score;
  }
  // d_log_s_i = d_w_i s_i
  template <int K, RoutingScalar S>
  MOE_HOST_DEVICE static Array<S, K> backward(Array<S, K> const& score,
                                              S,
                                              Array<S, K> const& d_weight)
  {
    Array<S, K> d{};
    for (int k = 0; k < K; ++k) {
      d[k] = d_weight[k] * score[k];
    }
    return d;
  }
};

// w = s / (|s|_P + epsilon) over the K chosen; weights are 0 where that is 0 (MegaBlocks, DBRX).
template <int P>
struct lp_normalized {
  static_assert(P >= 1, "moe::lp_normalized: P is at least 1");
  static constexpr bool renormalizes = true;

  // (sum_k s_k^P)^(1/P); on s / max s, so that small scores' powers do not underflow
  template <int K, RoutingScalar S>
  MOE_HOST_DEVICE static S norm(Array<S, K> const& score)
  {
    S largest = 1, sum = 0;
    if constexpr (P > 1) {
      largest = score[0];
      for (int k = 1; k < K; ++k) {
        largest = score[k] > largest ? score[k] : largest;
      }
      if (!(largest > 0)) { return 0; }
    }
    for (int k = 0; k < K; ++k) {
      sum += power<P>(score[k] / largest);
    }
    return P == 1 ? sum : largest * std::pow(sum, S{1} / S(P));
  }
  template <RoutingScalar S>
  struct Of {
    S divisor;
    [[nodiscard]] MOE_HOST_DEVICE S operator()(S score) const
    {
      return divisor > 0 ? score / divisor : S{0};
    }
  };
  template <int K, RoutingScalar S>
  MOE_HOST_DEVICE static Of<S> of(Array<S, K> const& score, S epsilon)
  {
    return {norm(score) + epsilon};
  }
  template <int K, RoutingScalar S>
  MOE_HOST_DEVICE static Array<S, K> weights(Array<S, K> const& score, S epsilon)
  {
    auto const weight_of = of(score, epsilon);
    Array<S, K> w{};
    for (int k = 0; k < K; ++k) {
      w[k] = weight_of(score[k]);
    }
    return w;
  }
  // d_log_s_i = w_i (d_w_i - (s_i / |s|)^(P-1) sum_j d_w_j w_j)
  template <int K, RoutingScalar S>
  MOE_HOST_DEVICE static Array<S, K> backward(Array<S, K> const& score,
                                              S epsilon,
                                              Array<S, K> const& d_weight)
  {
    S const length = norm(score);
    auto const w   = weights(score, epsilon);
    S dot          = 0;
    for (int k = 0; k < K; ++k) {
      dot += d_weight[k] * w[k];
    }
    Array<S, K> d{};
    for (int k = 0; k < K; ++k) {
      d[k] = length > 0 ? w[k] * (d_weight[k] - power<P - 1>(score[k] / length) * dot) : S{0};
    }
    return d;
  }

 private:
  template <int N, RoutingScalar S>
  MOE_HOST_DEVICE static S power(S x)
  {
    S y = 1;
    for (int i = 0; i < N; ++i) {
      y *= x;
    }
    return y;
  }
};

// w = s / (sum of the K chosen + epsilon)
using renormalized = lp_normalized<1>;

}  // namespace moe
