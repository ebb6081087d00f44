#pragma once
// The products over the rows of each expert, on Cuda (contract: exec/gemm.hpp). Offsets are read on
// the device and rows through their index: no synchronisation with the host and no permuted copy.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <moe/exec/cuda/expert_blas.cuh>
#include <moe/exec/cuda/grouped_mma.cuh>
#include <moe/exec/cuda/grouped_plain.cuh>

namespace moe {
namespace detail {

template <class... Ts>
inline constexpr bool tensor_core_elements =
    ((std::is_same_v<Ts, Half> && ...) || (std::is_same_v<Ts, BFloat16> && ...));

// Rows that 16-byte copies can take, and whose stride the kernels hold in 32 bits.
inline bool aligned_16(void const* base, index_t stride)
{
  return reinterpret_cast<std::uintptr_t>(base) % 16 == 0 && stride % 8 == 0 && stride <= (1 << 30);
}

template <class Kernel, class Product>
MOE_HIDDEN void launch_mma(
    Cuda const& exec, Kernel kernel, char const* name, dim3 grid, Product const& p, TileOrder order)
{
  constexpr int bytes =
      mma_tuning.stages * (mma_tuning.rows + mma_tuning.columns) * mma_tuning.depth * 2;
  cuda_try(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), name);
  launch(kernel, name, grid, dim3(mma_tuning.threads), bytes, exec.stream(), p, order);
}

inline index_t tiles_of(index_t n, int tile)
{
  return (n + tile - 1) / tile;
}

}  // namespace detail

// {} is no bias.
template <class A, class W, class C, class Bias = std::remove_const_t<W> const>
void grouped_gemm_rows(Cuda const& exec,
                       RowGroups<Cuda> const& groups,
                       IndexedRows<A, Cuda> a,
                       Transpose tw,
                       View<W, 3, Cuda> w,
                       View<Bias, 2, Cuda> bias,
                       View<C, 2, Cuda> c)
{
  using TW        = std::remove_const_t<W>;
  index_t const n = c.extent(1), k = a.columns();
  Check const check{"moe::grouped_gemm_rows"};
  check.equal("columns of op(w)", w.extent(tw == Transpose::no ? 2 : 1), "columns of c", n);
  check.equal("rows of op(w)", w.extent(tw == Transpose::no ? 1 : 2), "columns of a", k);
  if (bias.data_handle() != nullptr) {
    check.equal("columns of the bias", bias.extent(1), "columns of c", n);
  }
  if (groups.experts() <= 0 || groups.rows == 0 || n == 0) { return; }
  if (groups.known_begin >= 0) {
    if (detail::cublas_expert_rows(exec, groups, a, tw, w, bias, c)) { return; }
  }
  detail::GroupedProduct<A, TW, C> const p{groups,
                                           {a.base.data_handle(), k, a.index.data_handle()},
                                           {w.data_handle(), w.extent(2), nullptr},
                                           0,
                                           n,
                                           k,
                                           w.extent(1),
                                           bias.data_handle(),
                                           c.data_handle()};
  char const* const name = "moe::grouped_gemm_rows";
  auto const grid        = [&](int tile_m, int tile_n) {
    detail::TileOrder const order{detail::row_tiles_bound(groups, tile_m),
                                  detail::tiles_of(n, tile_n)};
    return order;
  };
  auto const blocks = [](detail::TileOrder const& order) {
    return dim3(static_cast<unsigned>(order.row_tiles * order.column_tiles));
  };
  if constexpr (detail::tensor_core_elements<A, TW>) {
    if (detail::aligned_16(p.a.base, k) && detail::aligned_16(p.b.base, p.b.stride)) {
      auto const order = grid(detail::mma_tuning.rows, detail::mma_tuning.columns);
      tw == Transpose::yes
          ? detail::launch_mma(exec,
                               &detail::grouped_rows_mma_kernel<A, C, detail::Major::k>,
                               name,
                               blocks(order),
                               p,
                               order)
          : detail::launch_mma(exec,
                               &detail::grouped_rows_mma_kernel<A, C, detail::Major::lanes>,
                               name,
                               blocks(order),
                               p,
                               order);
      return;
    }
  }
  auto const order = grid(detail::plain_tuning.tile, detail::plain_tuning.tile);
  tw == Transpose::yes ? detail::launch(&detail::grouped_rows_plain_kernel<A, TW, C, true>,
                                        name,
                                        blocks(order),
                                        dim3(detail::plain_threads),
                                        0,
                                        exec.stream(),
                                        p,
                                        order)
                       : detail::launch(&detail::grouped_rows_plain_kernel<A, TW, C, false>,
                                        name,
                                        blocks(order),
                                        dim3(detail::plain_threads),
                                        0,
                                        exec.stream(),
                                        p,
                                        order);
}

template <class A, class B, class G>
void grouped_gemm_weights(Cuda const& exec,
                          RowGroups<Cuda> const& groups,
                          IndexedRows<A, Cuda> a,
                          IndexedRows<B, Cuda> b,
                          View<G, 3, Cuda> dw)
{
  index_t const m = dw.extent(1), n = dw.extent(2);
  Check const check{"moe::grouped_gemm_weights"};
  check.equal("columns of a", a.columns(), "rows of dw(e)", m);
  check.equal("columns of b", b.columns(), "columns of dw(e)", n);
  if (groups.experts() <= 0 || groups.rows == 0 || m == 0 || n == 0) { return; }
  if (groups.known_begin >= 0) {
    if (detail::cublas_expert_weights(exec, groups, a, b, dw)) { return; }
  }
  detail::GroupedProduct<A, B, G> const p{groups,
                                          {a.base.data_handle(), m, a.index.data_handle()},
                                          {b.base.data_handle(), n, b.index.data_handle()},
                                          m,
                                          n,
                                          0,
                                          m,
                                          nullptr,
                                          dw.data_handle()};
  char const* const name = "moe::grouped_gemm_weights";
  auto const order       = [&](int tile_m, int tile_n) {
    return detail::TileOrder{detail::tiles_of(m, tile_m), detail::tiles_of(n, tile_n)};
  };
  auto const blocks = [&](detail::TileOrder const& o) {
    return dim3(static_cast<unsigned>(o.row_tiles * o.column_tiles),
                static_cast<unsigned>(groups.experts()));
  };
  if constexpr (detail::tensor_core_elements<A, B>) {
    if (detail::aligned_16(p.a.base, m) && detail::aligned_16(p.b.base, n)) {
      auto const o = order(detail::mma_tuning.rows, detail::mma_tuning.columns);
      detail::launch_mma(exec, &detail::grouped_weights_mma_kernel<A, G>, name, blocks(o), p, o);
      return;
    }
  }
  auto const o = order(detail::plain_tuning.tile, detail::plain_tuning.tile);
  detail::launch(&detail::grouped_weights_plain_kernel<A, B, G>,
                 name,
                 blocks(o),
                 dim3(detail::plain_threads),
                 0,
                 exec.stream(),
                 p,
                 o);
}

}  // namespace moe
