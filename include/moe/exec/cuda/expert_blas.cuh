#pragma once
// One expert's products by cuBLAS, for a schedule that made the host know its rows.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/gemm.cuh>
#include <moe/exec/cuda/vector.cuh>
#include <moe/expert/expert_rows.hpp>

namespace moe::detail {

// N neighbouring elements at a time.
template <int N, class T>
struct GatherRow {
  IndexedRows<T, Cuda> rows;
  index_t begin;
  View<T, 2, Cuda> to;
  template <Team G>
  __device__ void operator()(G team, index_t i) const
  {
    T const* const from = rows.row(begin + i);
    for (index_t d = team.lane() * N; d < to.extent(1); d += team.size() * N) {
      store_vector(&to(i, d), from == nullptr ? Vector<T, N>{} : load_vector<N>(from + d));
    }
  }
};

// Rows [begin, end), side by side as cuBLAS needs them: as they lie, or gathered into `memory`.
template <class T>
T const* expert_rows(Cuda const& exec,
                     RowGroups<Cuda> const& groups,
                     IndexedRows<T, Cuda> const& rows,
                     Tensor<T, 2, Cuda>& memory)
{
  index_t const begin = groups.known_begin, n = groups.known_end - begin;
  if (rows.index.data_handle() == nullptr) {
    return rows.base.data_handle() + begin * rows.columns();
  }
  memory = Tensor<T, 2, Cuda>(exec, n, rows.columns());
  if (rows_aligned_16(rows.base, memory.view())) {
    exec.for_each_row(n, GatherRow<Vector16<T>::size, T>{rows, begin, memory.view()});
  } else {
    exec.for_each_row(n, GatherRow<1, T>{rows, begin, memory.view()});
  }
  return memory.const_view().data_handle();
}

template <class T, class Bias>
struct FillBiasRow {
  View<Bias, 2, Cuda> bias;
  Id expert;
  T* to;
  index_t columns;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    for (index_t j = team.lane(); j < columns; j += team.size()) {
      to[r * columns + j] = static_cast<T>(static_cast<float>(bias(expert, j)));
    }
  }
};

// Whether cuBLAS has a product of these element types: operands alike, a result alike or in float.
template <class A, class B, class C>
inline constexpr bool cublas_elements =
    std::is_same_v<A, B> && (std::is_same_v<C, A> || std::is_same_v<C, float>);

template <class A, class W, class Bias, class C>
bool cublas_expert_rows(Cuda const& exec,
                        RowGroups<Cuda> const& groups,
                        IndexedRows<A, Cuda> const& a,
                        Transpose tw,
                        View<W, 3, Cuda> w,
                        View<Bias, 2, Cuda> bias,
                        View<C, 2, Cuda> c)
{
  if constexpr (cublas_elements<A, std::remove_const_t<W>, C>) {
    index_t const n = c.extent(1), k = a.columns(), rows = groups.known_end - groups.known_begin;
    if (rows == 0) { return true; }
    Tensor<A, 2, Cuda> memory;
    A const* const from = expert_rows(exec, groups, a, memory);
    C* const to         = c.data_handle() + groups.known_begin * n;
    bool const biased   = bias.data_handle() != nullptr;
    if (biased) { exec.for_each_row(rows, FillBiasRow<C, Bias>{bias, groups.first, to, n}); }
    cublas_product(exec,
                   Transpose::no,
                   from,
                   tw,
                   w.data_handle() + groups.first * n * k,
                   rows,
                   n,
                   k,
                   biased ? 1.f : 0.f,
                   to);
    return true;
  } else {
    return false;
  }
}

template <class A, class B, class G>
bool cublas_expert_weights(Cuda const& exec,
                           RowGroups<Cuda> const& groups,
                           IndexedRows<A, Cuda> const& a,
                           IndexedRows<B, Cuda> const& b,
                           View<G, 3, Cuda> dw,
                           Result result)
{
  if constexpr (cublas_elements<A, B, G>) {
    index_t const m = dw.extent(1), n = dw.extent(2);
    index_t const rows = groups.known_end - groups.known_begin;
    G* const to        = dw.data_handle() + groups.first * m * n;
    if (rows == 0) {
      if (result == Result::overwrite) {
        exec.zero(to, static_cast<std::size_t>(m * n) * sizeof(G));
      }
      return true;
    }
    Tensor<A, 2, Cuda> a_memory, b_memory;
    A const* const from_a = expert_rows(exec, groups, a, a_memory);
    B const* const from_b = expert_rows(exec, groups, b, b_memory);
    cublas_product(exec,
                   Transpose::yes,
                   from_a,
                   Transpose::no,
                   from_b,
                   m,
                   n,
                   rows,
                   result == Result::add ? 1.f : 0.f,
                   to);
    return true;
  } else {
    return false;
  }
}

}  // namespace moe::detail
