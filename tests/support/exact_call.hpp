#pragma once
// One call of a layer with given routing against plain loops on the GPU, bit for bit: numbers are
// small and whole or powers of two, so that every sum is exact in any order.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <moe/moe.cuh>

#include <doctest/doctest.h>

#include "support/space.hpp"

namespace moe::test {

inline constexpr int exact_top_k = 8;
using T16                        = BFloat16;

MOE_HOST_DEVICE inline std::uint32_t hash_of(std::uint64_t i)
{
  i = (i ^ (i >> 31)) * 0x7fb5d329728ea185ull;
  i = (i ^ (i >> 27)) * 0x81dadef4bc2dd44dull;
  return static_cast<std::uint32_t>(i >> 32);
}

// -1, 0 or 1, 0 but for 2 in `period`.
struct FillSparseRow {
  T16* to;
  index_t columns, offset;
  std::uint32_t period;
  template <Team G>
  __device__ void operator()(G team, index_t r) const
  {
    for (index_t c = team.lane(); c < columns; c += team.size()) {
      index_t const i       = r * columns + c;
      std::uint32_t const h = hash_of(static_cast<std::uint64_t>(i + offset)) % period;
      to[i]                 = T16(h == 0 ? 1.f : h == 1 ? -1.f : 0.f);
    }
  }
};

struct GiveRow {  // ids and weights of one token
  View<Id, 2, Cuda> expert;
  View<float, 2, Cuda> weight;
  index_t experts, rows;  // assignments from `rows` on go nowhere
  template <Team G>
  __device__ void operator()(G team, index_t t) const
  {
    for (int k = team.lane(); k < exact_top_k; k += team.size()) {
      index_t const a = t * exact_top_k + k;
      expert(t, k)    = a < rows ? static_cast<Id>((a * 37 + t / 64) % experts) : -1;
      weight(t, k)    = a % 3 == 0 ? 0.5f : a % 3 == 1 ? 1.f : 2.f;
    }
  }
};

__device__ inline float rounded(float x)
{
  return static_cast<float>(T16(x));
}

// Everything of one layer call, and what a plain loop makes of it.
struct ExactCall {
  View<T16 const, 2, Cuda> x, dy;          // (T, D)
  View<T16 const, 3, Cuda> w_in, w_out;    // (E, F, D), (E, D, F)
  View<Id const, 2, Cuda> expert;          // (T, K)
  View<float const, 2, Cuda> weight;       // (T, K)
  View<float, 2, Cuda> a, d_pre;           // (A, F)
  View<T16 const, 2, Cuda> y, dx;          // (T, D) the layer's
  View<float const, 2, Cuda> d_weight;     // (T, K) the layer's
  View<float const, 3, Cuda> d_in, d_out;  // (E, F, D), (E, D, F) the layer's
};

// Of one assignment: a, d_pre, and whether d_weight is the layer's.
struct AssignmentRow {
  ExactCall w;
  View<Id, 1, Cuda> bad;
  template <Team G>
  __device__ void operator()(G team, index_t i) const
  {
    index_t const t = i / exact_top_k, D = w.x.extent(1), F = w.a.extent(1);
    int const k    = static_cast<int>(i % exact_top_k);
    Id const e     = w.expert(t, k);
    float d_weight = 0;
    for (index_t f = 0; f < F && e >= 0; ++f) {
      float pre = 0, da = 0;
      for (index_t d = team.lane(); d < D; d += team.size()) {
        pre += static_cast<float>(w.w_in(e, f, d)) * static_cast<float>(w.x(t, d));
        da += static_cast<float>(w.w_out(e, d, f)) * static_cast<float>(w.dy(t, d));
      }
      pre           = rounded(team.sum(pre));
      da            = rounded(team.sum(da));
      float const a = pre > 0 ? pre : 0.f;
      d_weight += da * a;
      if (team.lane() == 0) {
        w.a(i, f)     = a;
        w.d_pre(i, f) = pre > 0 ? rounded(w.weight(t, k) * da) : 0.f;
      }
    }
    if (team.lane() == 0) { bad(i) = d_weight == w.d_weight(t, k) ? 0 : 1; }
  }
};

// Of one token: how many columns of y and dx are not the layer's.
struct TokenRow {
  ExactCall w;
  View<Id, 1, Cuda> bad;
  template <Team G>
  __device__ void operator()(G team, index_t t) const
  {
    index_t const D = w.x.extent(1), F = w.a.extent(1);
    Id wrong = 0;
    for (index_t d = team.lane(); d < D; d += team.size()) {
      float y = 0, dx = 0;
      for (int k = 0; k < exact_top_k; ++k) {
        Id const e = w.expert(t, k);
        if (e < 0) { continue; }
        float out = 0, back = 0;
        for (index_t f = 0; f < F; ++f) {
          out += static_cast<float>(w.w_out(e, d, f)) * w.a(t * exact_top_k + k, f);
          back += static_cast<float>(w.w_in(e, f, d)) * w.d_pre(t * exact_top_k + k, f);
        }
        y += w.weight(t, k) * rounded(out);
        dx += rounded(back);
      }
      wrong += T16(y).bits == w.y(t, d).bits && T16(dx).bits == w.dx(t, d).bits ? 0 : 1;
    }
    wrong = team.sum(wrong);
    if (team.lane() == 0) { bad(t) = wrong; }
  }
};

inline constexpr index_t samples = 6;  // of each extent, first and last among them

// Whether a sample of the weights' gradients is the layer's.
struct GradientRow {
  ExactCall w;
  View<Id, 1, Cuda> bad;
  __device__ static index_t sample(index_t i, index_t n) { return i * (n - 1) / (samples - 1); }
  template <Team G>
  __device__ void operator()(G team, index_t row) const
  {
    index_t const D = w.x.extent(1), F = w.a.extent(1), E = w.w_in.extent(0);
    index_t const e = sample(row / samples / samples, E), f = sample(row / samples % samples, F),
                  d = sample(row % samples, D);
    float d_in = 0, d_out = 0;
    for (index_t i = team.lane(); i < w.a.extent(0); i += team.size()) {
      index_t const t = i / exact_top_k;
      int const k     = static_cast<int>(i % exact_top_k);
      if (w.expert(t, k) != e) { continue; }
      d_in += w.d_pre(i, f) * static_cast<float>(w.x(t, d));
      d_out += rounded(w.weight(t, k) * w.a(i, f)) * static_cast<float>(w.dy(t, d));
    }
    d_in  = team.sum(d_in);
    d_out = team.sum(d_out);
    if (team.lane() == 0) {
      bad(row) = d_in == w.d_in(e, f, d) && d_out == w.d_out(e, d, f) ? 0 : 1;
    }
  }
};

template <class F>
index_t count_bad(Cuda const& exec, index_t rows, F functor)
{
  Tensor<Id, 1, Cuda> bad(exec, rows);
  functor.bad = bad.view();
  exec.for_each_row(rows, functor);
  auto const counts = get(exec, bad.const_view());
  return std::accumulate(counts.begin(), counts.end(), index_t{0});
}

struct ExactShape {
  index_t tokens, hidden, experts, ffn;
  std::uint32_t period_in, period_out, period_x, period_dy;
};

inline auto const given =
    Layer{GivenRouting<exact_top_k>{}, Dropless{}, BatchedDispatcher{}, Ffn<Relu>{}};

// The whole layer, forward and backward, against plain loops; for each number of rows in use.
inline void check_given(ExactShape const& s, std::vector<index_t> const& rows_in_use)
{
  Cuda const exec;
  index_t const T = s.tokens, D = s.hidden, E = s.experts, F = s.ffn, A = T * exact_top_k;
  auto params  = given.make_params<T16>(exec, {.hidden = D, .experts = E, .expert = {.ffn = F}});
  auto grads   = given.make_params<float>(exec, params.sizes());
  auto saved   = given.make_saved<T16>(exec, params.sizes(), T);
  auto const p = params.view().experts;
  exec.for_each_row(E * F, FillSparseRow{p.w_in.data_handle(), D, 1, s.period_in});
  exec.for_each_row(E * D, FillSparseRow{p.w_out.data_handle(), F, index_t{1} << 40, s.period_out});
  Tensor<T16, 2, Cuda> x(exec, T, D), dy(exec, T, D), y(exec, T, D), dx(exec, T, D);
  exec.for_each_row(T, FillSparseRow{x.view().data_handle(), D, index_t{1} << 41, s.period_x});
  exec.for_each_row(T, FillSparseRow{dy.view().data_handle(), D, index_t{1} << 42, s.period_dy});
  Tensor<Id, 2, Cuda> expert(exec, T, exact_top_k);
  Tensor<float, 2, Cuda> weight(exec, T, exact_top_k), d_weight(exec, T, exact_top_k),
      a(exec, A, F), d_pre(exec, A, F);
  for (index_t const rows : rows_in_use) {
    CAPTURE(rows);
    exec.for_each_row(T, GiveRow{expert.view(), weight.view(), E, rows});
    exec.zero(grads.flat().data_handle(),
              static_cast<std::size_t>(grads.flat().size()) * sizeof(float));
    exec.zero(a.view().data_handle(), a.bytes());
    exec.zero(d_pre.view().data_handle(), d_pre.bytes());
    LayerInput<T16, Cuda> const in{.x            = x.const_view(),
                                   .given_expert = expert.const_view(),
                                   .given_weight = weight.const_view()};
    given.forward(exec, params, in, y.view(), saved);
    given.backward(
        exec, params, saved, in, dy.const_view(), grads.view(), dx.view(), d_weight.view());
    CHECK(saved.statistics(exec).assigned == rows);
    auto const g = grads.view().experts;
    ExactCall const whole{x.const_view(),
                          dy.const_view(),
                          params.const_view().experts.w_in,
                          params.const_view().experts.w_out,
                          expert.const_view(),
                          weight.const_view(),
                          a.view(),
                          d_pre.view(),
                          y.const_view(),
                          dx.const_view(),
                          d_weight.const_view(),
                          g.w_in,
                          g.w_out};
    CHECK(count_bad(exec, A, AssignmentRow{whole, {}}) == 0);
    CHECK(count_bad(exec, T, TokenRow{whole, {}}) == 0);
    CHECK(count_bad(exec, samples * samples * samples, GradientRow{whole, {}}) == 0);
    // None of it is an empty comparison.
    double largest = 0;
    for (double const v : get_numbers(exec, View<T16 const, 1, Cuda>(y.view().data_handle(), D))) {
      largest = std::max(largest, std::abs(v));
    }
    CHECK(largest > 1);
  }
}

}  // namespace moe::test
