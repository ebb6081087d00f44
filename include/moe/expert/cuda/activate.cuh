#pragma once
// The FFN's activation on Cuda: a warp per row, a lane N neighbouring columns, which are 16 bytes,
// or one column where rows are not aligned to that. The same maths as the functors of ffn_rows.hpp,
// whose blocks of columns are made for a CPU's vectors.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/grouped_rows.cuh>
#include <moe/exec/cuda/vector.cuh>
#include <moe/expert/ffn_rows.hpp>

namespace moe::detail {

// One vector of a row's pre-activations, column by column.
template <int N, int Arity, class T>
struct PreVector {
  using S = accumulator_t<T>;
  Vector<T, N> z[static_cast<std::size_t>(Arity)];

  __device__ PreVector(View<T const, 2, Cuda> const& pre, index_t r, index_t f, index_t F)
  {
    for (int j = 0; j < Arity; ++j) {
      z[j] = load_vector<N>(&pre(r, j * F + f));
    }
  }
  __device__ Array<S, Arity> operator()(int i) const
  {
    Array<S, Arity> column;
    for (int j = 0; j < Arity; ++j) {
      column[j] = static_cast<S>(z[j][i]);
    }
    return column;
  }
};

template <int N, class ActivationT, class T>
struct ActivateVectorsRow {
  ActivateRow<ActivationT, T, Cuda> row;

  template <Team G>
  __device__ void operator()(G team, index_t, index_t r) const
  {
    index_t const F = row.a.extent(1);
    for (index_t f = team.lane() * N; f < F; f += team.size() * N) {
      PreVector<N, ActivationT::arity, T> const z(row.pre, r, f, F);
      Vector<T, N> value;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        value[i] = static_cast<T>(row.activation(z(i)));
      }
      store_vector(&row.a(r, f), value);
    }
  }
};

template <int N, class ActivationT, class T>
struct ActivateVectorsBackwardRow {
  using S = accumulator_t<T>;
  ActivateBackwardRow<ActivationT, T, Cuda> row;

  template <Team G>
  __device__ void operator()(G team, index_t e, index_t r) const
  {
    constexpr int arity = ActivationT::arity;
    index_t const F     = row.da.extent(1);
    S const w           = row.weight(r);
    S sum               = 0;
    for (index_t f = team.lane() * N; f < F; f += team.size() * N) {
      PreVector<N, arity, T> const z(row.pre, r, f, F);
      auto const da = load_vector<N>(&row.da(r, f));
      Vector<T, N> value, grad[arity];
#pragma unroll
      for (int i = 0; i < N; ++i) {
        S const d    = static_cast<S>(da[i]);
        S const a    = row.activation(z(i));
        auto const g = row.activation.backward(z(i), w * d);
        sum += d * a;
        value[i] = static_cast<T>(w * a);
#pragma unroll
        for (int j = 0; j < arity; ++j) {
          grad[j][i] = static_cast<T>(g[j]);
        }
      }
      store_vector(&row.da(r, f), value);
#pragma unroll
      for (int j = 0; j < arity; ++j) {
        store_vector(&row.d_pre(r, j * F + f), grad[j]);
      }
    }
    T const* const dy_row = row.dy.row(r);
    if (row.b_out.data_handle() != nullptr && dy_row != nullptr) {
      for (index_t d = team.lane(); d < row.b_out.extent(1); d += team.size()) {
        sum += static_cast<S>(dy_row[d]) * static_cast<S>(row.b_out(e, d));
      }
    }
    sum = team.sum(sum);
    if (team.lane() == 0) { row.d_weight(r) = sum; }
  }
};

template <class ActivationT, class T>
void activate(Cuda const& exec,
              RowGroups<Cuda> const& groups,
              ActivateRow<ActivationT, T, Cuda> const& row)
{
  if (rows_aligned_16(row.pre, row.a)) {
    for_each_grouped_row(exec, groups, ActivateVectorsRow<Vector16<T>::size, ActivationT, T>{row});
  } else {
    for_each_grouped_row(exec, groups, ActivateVectorsRow<1, ActivationT, T>{row});
  }
}
template <class ActivationT, class T>
void activate_backward(Cuda const& exec,
                       RowGroups<Cuda> const& groups,
                       ActivateBackwardRow<ActivationT, T, Cuda> const& row)
{
  if (rows_aligned_16(row.pre, row.da, row.d_pre)) {
    for_each_grouped_row(
        exec, groups, ActivateVectorsBackwardRow<Vector16<T>::size, ActivationT, T>{row});
  } else {
    for_each_grouped_row(exec, groups, ActivateVectorsBackwardRow<1, ActivationT, T>{row});
  }
}

}  // namespace moe::detail
