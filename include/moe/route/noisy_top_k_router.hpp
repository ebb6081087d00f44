#pragma once
// Noisy top-k gating.
#include <string>

#include <moe/core/error.hpp>
#include <moe/route/random.hpp>
#include <moe/route/router.hpp>
#include <moe/route/row_math.hpp>

namespace moe {

// Shazeer et al. 2017, eq. 3-5 (FastMoE's noisy gate): learned noise on the logits in training,
// then the K largest with a softmax over just those. The gate gives 2E columns, the clean logits z
// and then the raw noise r:
//   h_e = z_e + N(0,1) (softplus(r_e) + min_noise),   w = softmax of the K largest h
// The normal number is that of (seed, step, token, e).
template <int K>
struct NoisyTopK {
  static_assert(K >= 1 && K <= max_top_k, "moe: top_k is between 1 and 32");
  static_assert(K > 1,
                "moe: top_k = 1 with a softmax over the chosen logit gives weight 1 always, so the "
                "router gets no gradient: use SoftmaxTopK with unnormalized");
  static constexpr int top_k = K;

  double min_noise = 1e-2;

  static constexpr index_t logit_columns(index_t experts) { return 2 * experts; }

  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE Choice<K, S> route(G team, RowContext const& ctx, Row<S const> logits) const
  {
    auto const noisy = [&](Id e) { return noisy_logit(ctx, logits, e); };
    Choice<K, S> c;
    c.expert = moe::top_k<K>(team, logits.size() / 2, noisy);
    Array<S, K> value{};
    for (int k = 0; k < K; ++k) {
      value[k] = noisy(c.expert[k]);
    }
    c.weight = detail::softmax_of_chosen(value);
    return c;
  }

  // d_h_k = w_k (d_w_k - sum_j d_w_j w_j);   d_z_k = d_h_k,   d_r_k = d_h_k N_k sigmoid(r_k)
  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE void route_backward(G team,
                                      RowContext const& ctx,
                                      Row<S const> logits,
                                      Choice<K, S> const& c,
                                      Array<S, K> const& d_weight,
                                      Row<S> d_logits) const
  {
    auto const d     = detail::softmax_of_chosen_backward(c.weight, d_weight);
    Id const experts = logits.size() / 2;
    for (int k = 0; k < K; ++k) {
      Id const e  = c.expert[k];
      bool finite = is_finite(noisy_logit(ctx, logits, e));
      if (!detail::owns_column(team, e)) { continue; }
      if (finite && is_finite(logits[e])) { d_logits[e] += d[k]; }
      S const raw = logits[experts + e];
      if (ctx.training && finite && is_finite(raw)) {
        d_logits[experts + e] += d[k] * random_normal<S>(ctx, e) * sigmoid(raw);
      }
    }
  }

  void check(Check const& check, index_t experts) const
  {
    check.at_most("top_k", K, "experts", experts);
    check.that(std::isfinite(min_noise) && min_noise >= 0,
               "min_noise",
               min_noise,
               "finite and at least 0");
  }

 private:
  template <RoutingScalar S>
  [[nodiscard]] MOE_HOST_DEVICE S noisy_logit(RowContext const& ctx,
                                              Row<S const> logits,
                                              Id e) const
  {
    S const z = finite_logit(logits[e]);
    if (!ctx.training) { return z; }
    S const raw = finite_logit(logits[logits.size() / 2 + e]);
    return z + random_normal<S>(ctx, e) * (softplus(raw) + static_cast<S>(min_noise));
  }
};
static_assert(RowRouter<NoisyTopK<2>>);
static_assert(HasLogitColumns<NoisyTopK<2>>);

}  // namespace moe
