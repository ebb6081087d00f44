#pragma once
// What routers and losses compute over one row of logits.
//
// Logits that are not finite numbers never reach a weight or a loss: NaN and -inf count as the
// lowest finite number, +inf as the largest (finite_logit). So a -inf beside finite logits gets
// softmax weight 0, a row without any finite one is uniform, K distinct experts always come out,
// and no gradient flows into such a logit.
#include <cmath>

#include <moe/core/element.hpp>
#include <moe/core/team.hpp>

namespace moe {

template <RoutingScalar S>
MOE_HOST_DEVICE constexpr bool is_finite(S x)
{
  return x - x == S{0};
}

template <RoutingScalar S>
MOE_HOST_DEVICE constexpr S finite_logit(S x)
{
  if (x > largest_finite<S>) { return largest_finite<S>; }
  return x >= -largest_finite<S> ? x : -largest_finite<S>;  // false for NaN
}

// 1 / (1 + exp(-x)), without overflow
template <RoutingScalar S>
MOE_HOST_DEVICE S sigmoid(S x)
{
  S const e = std::exp(x < 0 ? x : -x);
  return (x < 0 ? e : S{1}) / (S{1} + e);
}

// log(1 + exp(x)), without overflow; its derivative is sigmoid
template <RoutingScalar S>
MOE_HOST_DEVICE S softplus(S x)
{
  return (x > 0 ? x : S{0}) + std::log1p(std::exp(x < 0 ? x : -x));
}

namespace detail {

inline constexpr Id no_column = 0x7fffffff;  // loses every tie

// The N largest values seen and where, best first; of equal ones the first seen stays ahead.
template <int N, RoutingScalar S>
struct Largest {
  Array<S, N> value;
  Array<Id, N> at;

  MOE_HOST_DEVICE Largest()
  {
    for (int k = 0; k < N; ++k) {
      value[k] = -INFINITY;
      at[k]    = 0;
    }
  }
  MOE_HOST_DEVICE void insert(S v, Id i)
  {
    if (!(v > value[N - 1])) { return; }
    int k = N - 1;
    for (; k > 0 && v > value[k - 1]; --k) {
      value[k] = value[k - 1];
      at[k]    = at[k - 1];
    }
    value[k] = v;
    at[k]    = i;
  }
};

}  // namespace detail

// The columns of the K largest score(i), i in [0, n), best first. Ties go to the smaller column,
// NaN counts as -inf, and the K are distinct if n >= K.
template <int K, Team G, class ScoreF>
MOE_HOST_DEVICE Array<Id, K> top_k(G team, Id n, ScoreF const& score)
{
  using S = decltype(score(Id{}));
  if (team.size() == 1) {
    detail::Largest<K, S> largest;
    for (Id i = 0; i < n; ++i) {
      largest.insert(finite_logit(score(i)), i);
    }
    return largest.at;
  }
  // A pass per choice: the best of those that come after the last chosen one. The first scores of a
  // lane are computed once and stay in registers, as many as there is room for beside the choices:
  // loops over them have constant bounds.
  constexpr int kept = K <= 8 ? 8 : 0;
  Array<S, kept> first;
  for (int i = 0; i < kept; ++i) {
    Id const c = team.lane() + i * team.size();
    first[i]   = c < n ? finite_logit(score(c)) : -INFINITY;
  }
  Array<Id, K> chosen{};
  S last = INFINITY;
  Id at  = -1;
  for (int k = 0; k < K; ++k) {
    S best            = -INFINITY;
    Id column         = detail::no_column;
    auto const offers = [&](S s, Id i) {
      bool const after = s < last || (s == last && i > at);
      if (after && s > best) {
        best   = s;
        column = i;
      }
    };
    for (int i = 0; i < kept; ++i) {
      offers(first[i], team.lane() + i * team.size());
    }
    for (Id i = team.lane() + kept * team.size(); i < n; i += team.size()) {
      offers(finite_logit(score(i)), i);
    }
    at        = team.arg_max(best, column);
    last      = team.max(best);
    chosen[k] = at == detail::no_column ? 0 : at;
  }
  return chosen;
}

template <Team G, RoutingScalar S>
MOE_HOST_DEVICE S max_logit(G team, Row<S const> logits)
{
  S largest = -largest_finite<S>;
  for (Id e = team.lane(); e < logits.size(); e += team.size()) {
    S const z = finite_logit(logits[e]);
    largest   = z > largest ? z : largest;
  }
  return team.max(largest);
}

// A row's softmax: p_e = exp(z_e - maximum) / sum.
template <RoutingScalar S>
struct RowSoftmax {
  S maximum;
  S sum;

  [[nodiscard]] MOE_HOST_DEVICE S operator()(S logit) const
  {
    return std::exp(finite_logit(logit) - maximum) / sum;
  }
  [[nodiscard]] MOE_HOST_DEVICE S log_sum_exp() const { return maximum + std::log(sum); }
};

template <Team G, RoutingScalar S>
MOE_HOST_DEVICE RowSoftmax<S> row_softmax(G team, Row<S const> logits)
{
  S const maximum = max_logit(team, logits);
  S sum           = 0;
  for (Id e = team.lane(); e < logits.size();) {
    S part = 0;  // of 32 columns, so that a lane that is alone rounds as little as a warp
    for (int i = 0; i < 32 && e < logits.size(); ++i, e += team.size()) {
      part += std::exp(finite_logit(logits[e]) - maximum);
    }
    sum += part;
  }
  return {maximum, team.sum(sum)};
}

// Finite for every row; with a +inf, or no finite logit at all, about +-the largest number.
template <Team G, RoutingScalar S>
MOE_HOST_DEVICE S log_sum_exp(G team, Row<S const> logits)
{
  return row_softmax(team, logits).log_sum_exp();
}

namespace detail {

// Whether this lane is the one that writes column e: the same that strides over it, so that two
// loops may add to it without a sync.
template <Team G>
MOE_HOST_DEVICE bool owns_column(G team, Id e)
{
  return e % team.size() == team.lane();
}

// Softmax over the K chosen logits, of which value[0] need not be the largest.
template <int K, RoutingScalar S>
MOE_HOST_DEVICE Array<S, K> softmax_of_chosen(Array<S, K> const& value)
{
  S largest = finite_logit(value[0]);
  for (int k = 1; k < K; ++k) {
    S const z = finite_logit(value[k]);
    largest   = z > largest ? z : largest;
  }
  Array<S, K> w{};
  S sum = 0;
  for (int k = 0; k < K; ++k) {
    w[k] = std::exp(finite_logit(value[k]) - largest);
    sum += w[k];
  }
  for (int k = 0; k < K; ++k) {
    w[k] /= sum;
  }
  return w;
}

// d_z_k = w_k (d_w_k - sum_j d_w_j w_j)
template <int K, RoutingScalar S>
MOE_HOST_DEVICE Array<S, K> softmax_of_chosen_backward(Array<S, K> const& w, Array<S, K> const& d_w)
{
  S dot = 0;
  for (int k = 0; k < K; ++k) {
    dot += d_w[k] * w[k];
  }
  Array<S, K> d{};
  for (int k = 0; k < K; ++k) {
    d[k] = w[k] * (d_w[k] - dot);
  }
  return d;
}

}  // namespace detail
}  // namespace moe
