#pragma once
// RMSNorm (Zhang & Sennrich 2019) over the last dimension, and its way back.
#include <cmath>

#include <moe/core/team.hpp>
#include <moe/core/view.hpp>
#include <moe/exec/gemm.hpp>

namespace train_lm {

using moe::index_t;
using moe::Team;
using moe::View;

// y(t) = x(t) r(t) (1 + gain), r(t) = 1 / sqrt(mean(x(t)^2) + epsilon). The gain is kept as its
// distance from one, so that it starts as zeros and weight decay pulls it to one.
template <class T, class ExecT>
struct RmsNormRow {
  View<T const, 2, ExecT> x;     // (T, D)
  View<T const, 1, ExecT> gain;  // (D)
  View<T, 2, ExecT> y;           // (T, D)
  View<T, 1, ExecT> scale;       // (T) r, for the way back
  static constexpr T epsilon = T(1e-5);

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const D = x.extent(1);
    T squares       = 0;
    for (index_t d = team.lane(); d < D; d += team.size()) {
      squares += x(t, d) * x(t, d);
    }
    T const r = T{1} / std::sqrt(team.sum(squares) / static_cast<T>(D) + epsilon);
    for (index_t d = team.lane(); d < D; d += team.size()) {
      y(t, d) = x(t, d) * r * (T{1} + gain(d));
    }
    if (team.lane() == 0) { scale(t) = r; }
  }
};

// With n = x r:  dx += r ((1 + gain) dy - n mean((1 + gain) dy n)),  d_gain = sum_t dy n
template <class T, class ExecT>
struct RmsNormBackwardRow {
  View<T const, 2, ExecT> x;      // (T, D)
  View<T const, 1, ExecT> gain;   // (D)
  View<T const, 1, ExecT> scale;  // (T)
  View<T const, 2, ExecT> dy;     // (T, D)
  View<T, 2, ExecT> dx;           // (T, D), +=: the residual stream's gradient is there already
  View<T, 2, ExecT> d_gain_row;   // (T, D), this row's part of d_gain

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const D = x.extent(1);
    T const r       = scale(t);
    T dot           = 0;
    for (index_t d = team.lane(); d < D; d += team.size()) {
      T const part     = dy(t, d) * x(t, d) * r;
      d_gain_row(t, d) = part;
      dot += (T{1} + gain(d)) * part;
    }
    T const mean = team.sum(dot) / static_cast<T>(D);
    for (index_t d = team.lane(); d < D; d += team.size()) {
      dx(t, d) += r * ((T{1} + gain(d)) * dy(t, d) - x(t, d) * r * mean);
    }
  }
};

// y, scale = RMSNorm(x)
template <class ExecT, class T>
void rms_norm(ExecT const& exec,
              std::type_identity_t<View<T const, 2, ExecT>> x,
              std::type_identity_t<View<T const, 1, ExecT>> gain,
              View<T, 2, ExecT> y,
              View<T, 1, ExecT> scale)
{
  exec.for_each_row(x.extent(0), RmsNormRow<T, ExecT>{x, gain, y, scale});
}

// dx +=, d_gain +=; `scratch` (T, D) holds what the rows add to d_gain, summed in a fixed order.
template <class ExecT, class T>
void rms_norm_backward(ExecT const& exec,
                       std::type_identity_t<View<T const, 2, ExecT>> x,
                       std::type_identity_t<View<T const, 1, ExecT>> gain,
                       std::type_identity_t<View<T const, 1, ExecT>> scale,
                       std::type_identity_t<View<T const, 2, ExecT>> dy,
                       View<T, 2, ExecT> dx,
                       View<T, 1, ExecT> d_gain,
                       View<T, 2, ExecT> scratch)
{
  exec.for_each_row(x.extent(0), RmsNormBackwardRow<T, ExecT>{x, gain, scale, dy, dx, scratch});
  sum_rows(exec, View<T const, 2, ExecT>(scratch), moe::Result::add, d_gain);
}

}  // namespace train_lm
