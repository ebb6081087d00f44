#pragma once
// What an FFN does to one row between its two products, and the way back.
#include <moe/exec/execution_space.hpp>
#include <moe/expert/activation.hpp>
#include <moe/expert/expert_rows.hpp>

namespace moe::detail {

// Neighbouring columns of a row that a lane works on at a time, in arrays of its own: their number
// is a constant (more than compilers unroll) and they alias nothing, so the maths between them
// becomes vectors at -O2 too. What is past the row's end is computed and not stored.
inline constexpr int ffn_columns = 64;

template <class S>
using FfnColumns = Array<S, ffn_columns>;

template <class S, class T>
MOE_HOST_DEVICE void load_columns(T const* from, index_t n, T past_end, FfnColumns<S>& to)
{
  if (n >= ffn_columns) {
    for (int i = 0; i < ffn_columns; ++i) {
      to[i] = static_cast<S>(from[i]);
    }
  } else {
    for (int i = 0; i < ffn_columns; ++i) {
      to[i] = static_cast<S>(i < n ? from[i] : past_end);
    }
  }
}
template <class S, class T>
MOE_HOST_DEVICE void store_columns(FfnColumns<S> const& from, index_t n, T* to)
{
  if (n >= ffn_columns) {
    for (int i = 0; i < ffn_columns; ++i) {
      to[i] = static_cast<T>(from[i]);
    }
  } else {
    for (index_t i = 0; i < n; ++i) {
      to[i] = static_cast<T>(from[i]);
    }
  }
}
// The pre-activations of one column.
template <int Arity, class S>
MOE_HOST_DEVICE Array<S, Arity> column(Array<FfnColumns<S>, Arity> const& z, int i)
{
  if constexpr (Arity == 1) {
    return {{z[0][i]}};
  } else {
    return {{z[0][i], z[1][i]}};
  }
}

// a(r) = act(pre(r)). Gate columns come first in pre, then up.
template <class ActivationT, class T, class ExecT>
struct ActivateRow {
  ActivationT activation;
  View<T const, 2, ExecT> pre;  // (R, arity F)
  View<T, 2, ExecT> a;          // (R, F)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t, index_t r) const
  {
    constexpr int arity = ActivationT::arity;
    using S             = accumulator_t<T>;
    index_t const F     = a.extent(1);
    for (index_t f = team.lane() * ffn_columns; f < F; f += team.size() * ffn_columns) {
      Array<FfnColumns<S>, arity> z;
      FfnColumns<S> value;
      for (int j = 0; j < arity; ++j) {
        load_columns(&pre(r, j * F + f), F - f, pre(r, j * F + f), z[j]);
      }
      for (int i = 0; i < ffn_columns; ++i) {
        value[i] = activation(column(z, i));
      }
      store_columns(value, F - f, &a(r, f));
    }
  }
};

// From da = W_out^T dy and the recomputed a:
//   d_weight = <da, a> + <dy, b_out>;   d_pre = weight act'(pre) da;   da becomes weight a, which
//   is
// what the gradient of W_out needs
template <class ActivationT, class T, class ExecT>
struct ActivateBackwardRow {
  using S = accumulator_t<T>;

  ActivationT activation;
  View<T const, 2, ExecT> pre;     // (R, arity F)
  View<S const, 1, ExecT> weight;  // (R)
  IndexedRows<T, ExecT> dy;        // (R, D)
  View<T const, 2, ExecT> b_out;   // (L, D) or empty
  View<T, 2, ExecT> da;            // (R, F)
  View<T, 2, ExecT> d_pre;         // (R, arity F)
  View<S, 1, ExecT> d_weight;      // (R)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t e, index_t r) const
  {
    constexpr int arity   = ActivationT::arity;
    index_t const F       = da.extent(1);
    S const w             = weight(r);
    FfnColumns<S> partial = {};  // neighbouring columns go to neighbouring sums: a fixed order
    for (index_t f = team.lane() * ffn_columns; f < F; f += team.size() * ffn_columns) {
      Array<FfnColumns<S>, arity> z, grad;
      FfnColumns<S> d, value;
      for (int j = 0; j < arity; ++j) {
        load_columns(&pre(r, j * F + f), F - f, pre(r, j * F + f), z[j]);
      }
      load_columns(&da(r, f), F - f, T{}, d);  // adds 0 to d_weight past the end
      for (int i = 0; i < ffn_columns; ++i) {
        S const a    = activation(column(z, i));
        auto const g = activation.backward(column(z, i), w * d[i]);
        partial[i] += d[i] * a;
        value[i]   = w * a;
        grad[0][i] = g[0];
        if constexpr (arity == 2) { grad[1][i] = g[1]; }
      }
      store_columns(value, F - f, &da(r, f));
      for (int j = 0; j < arity; ++j) {
        store_columns(grad[j], F - f, &d_pre(r, j * F + f));
      }
    }
    S sum = 0;
    for (int i = 0; i < ffn_columns; ++i) {
      sum += partial[i];
    }
    T const* const dy_row = dy.row(r);
    if (b_out.data_handle() != nullptr && dy_row != nullptr) {
      for (index_t d = team.lane(); d < b_out.extent(1); d += team.size()) {
        sum += static_cast<S>(dy_row[d]) * static_cast<S>(b_out(e, d));
      }
    }
    sum = team.sum(sum);
    if (team.lane() == 0) { d_weight(r) = sum; }
  }
};

// The two functors over the experts' rows; a space may have its own way of running them.
template <class ExecT, class ActivationT, class T>
void activate(ExecT const& exec,
              RowGroups<ExecT> const& groups,
              ActivateRow<ActivationT, T, ExecT> const& row)
{
  for_each_grouped_row(exec, groups, row);
}
template <class ExecT, class ActivationT, class T>
void activate_backward(ExecT const& exec,
                       RowGroups<ExecT> const& groups,
                       ActivateBackwardRow<ActivationT, T, ExecT> const& row)
{
  for_each_grouped_row(exec, groups, row);
}

}  // namespace moe::detail
