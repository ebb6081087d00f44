#pragma once
// The products over the rows of each expert, on Cuda (contract: exec/gemm.hpp). Offsets are read on
// the device and rows through their index: no synchronisation with the host and no permuted copy.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <algorithm>
#include <cstdint>
#include <limits>

#include <moe/exec/cuda/expert_blas.cuh>
#include <moe/exec/cuda/grouped_mma.cuh>
#include <moe/exec/cuda/grouped_plain.cuh>
#include <moe/exec/cuda/hopper/grouped_rows.cuh>
#include <moe/exec/cuda/hopper/grouped_weights.cuh>
#include <moe/exec/tensor_core_operands.hpp>

namespace moe {
namespace detail {

// Rows that a weights' kernel can step over: past the last one it still counts in 32 bits.
inline constexpr index_t most_row_steps = std::numeric_limits<Id>::max() - 256;

// A block per multiprocessor, which takes tile after tile.
template <class Kernel, class Product>
MOE_HIDDEN void launch_mma(Cuda const& exec,
                           Kernel kernel,
                           char const* name,
                           index_t tiles,
                           Product const& p,
                           TileOrder order)
{
  int const bytes = tile_shared_bytes(exec.hopper());
  cuda_try(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), name);
  index_t const blocks = std::min(tiles, index_t{exec.multiprocessors()});
  launch(kernel,
         name,
         dim3(static_cast<unsigned>(blocks)),
         dim3(tile_threads),
         static_cast<std::size_t>(bytes),
         exec.stream(),
         p,
         order);
}

inline index_t tiles_of(index_t n, int tile)
{
  return (n + tile - 1) / tile;
}

// The kernel whose warps all copy, multiply and store.
struct UniformWarps {};
// What multiplies rows on sm_90a where nobody says: UniformWarps, or the tuning of the
// warp-specialised kernel. They have the same bits.
using DefaultRowsKernel = HopperTuning;
// Likewise for the weights' gradients.
using DefaultWeightsKernel = WeightsTuning;

}  // namespace detail

// {} is no bias.
template <class KernelT = detail::DefaultRowsKernel,
          class A,
          class W,
          class C,
          class Bias = std::remove_const_t<W> const>
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
  auto const order_of    = [&](int tile_m, int tile_n) {
    return detail::TileOrder(detail::row_tiles_bound(groups, tile_m), detail::tiles_of(n, tile_n));
  };
  if constexpr (detail::tensor_core_elements<A, TW>) {
    if (k > 0 && detail::aligned_16(p.a.base, k) && detail::aligned_16(p.b.base, p.b.stride) &&
        detail::aligned_16(p.c, n) && detail::aligned_16(p.bias, n) &&
        detail::within_64_gib(a.base)) {
      if constexpr (!std::is_same_v<KernelT, detail::UniformWarps> && std::is_same_v<A, C>) {
        if (detail::hopper_grouped_rows<KernelT>(
                exec, p, a.base.extent(0), tw, w.extent(0), name)) {
          return;
        }
      }
      auto const order  = order_of(detail::tile_rows, detail::tile_columns);
      auto const kernel = tw == Transpose::yes
                              ? &detail::grouped_rows_mma_kernel<A, C, detail::Major::k>
                              : &detail::grouped_rows_mma_kernel<A, C, detail::Major::lanes>;
      return detail::launch_mma(exec, kernel, name, order.tiles(), p, order);
    }
  }
  auto const order = order_of(detail::plain_tuning.tile, detail::plain_tuning.tile);
  detail::launch(&detail::grouped_rows_plain_kernel<A, TW, C>,
                 name,
                 dim3(order.tiles()),
                 dim3(detail::plain_threads),
                 0,
                 exec.stream(),
                 p,
                 tw,
                 order);
}

template <class KernelT = detail::DefaultWeightsKernel, class A, class B, class G>
void grouped_gemm_weights(Cuda const& exec,
                          RowGroups<Cuda> const& groups,
                          IndexedRows<A, Cuda> a,
                          IndexedRows<B, Cuda> b,
                          View<G, 3, Cuda> dw,
                          Result result = Result::add)
{
  index_t const m = dw.extent(1), n = dw.extent(2);
  Check const check{"moe::grouped_gemm_weights"};
  check.equal("columns of a", a.columns(), "rows of dw(e)", m);
  check.equal("columns of b", b.columns(), "columns of dw(e)", n);
  if (groups.experts() <= 0 || m == 0 || n == 0) { return; }
  if (groups.rows == 0) {
    if (result == Result::overwrite) {
      exec.zero(dw.data_handle() + groups.first * m * n,
                static_cast<std::size_t>(groups.experts() * m * n) * sizeof(G));
    }
    return;
  }
  if (groups.known_begin >= 0) {
    if (detail::cublas_expert_weights(exec, groups, a, b, dw, result)) { return; }
  }
  detail::GroupedProduct<A, B, G> const p{groups,
                                          {a.base.data_handle(), m, a.index.data_handle()},
                                          {b.base.data_handle(), n, b.index.data_handle()},
                                          m,
                                          n,
                                          0,
                                          m,
                                          nullptr,
                                          dw.data_handle(),
                                          result};
  char const* const name = "moe::grouped_gemm_weights";
  auto const order_of    = [&](int tile_m, int tile_n) {
    return detail::TileOrder(detail::tiles_of(m, tile_m), detail::tiles_of(n, tile_n));
  };
  if constexpr (detail::tensor_core_elements<A, B>) {
    if (detail::aligned_16(p.a.base, m) && detail::aligned_16(p.b.base, n) &&
        detail::aligned_16(p.c, n) && groups.rows <= detail::most_row_steps) {
      if constexpr (!std::is_same_v<KernelT, detail::UniformWarps> &&
                    (std::is_same_v<G, A> || std::is_same_v<G, float>)) {
        if (detail::hopper_grouped_weights<KernelT>(
                exec, p, a.base.extent(0), b.base.extent(0), name)) {
          return;
        }
      }
      auto const order    = order_of(detail::tile_rows, detail::tile_columns);
      index_t const tiles = index_t{order.tiles()} * groups.experts();
      return detail::launch_mma(
          exec, &detail::grouped_weights_mma_kernel<A, G>, name, tiles, p, order);
    }
  }
  auto const order = order_of(detail::plain_tuning.tile, detail::plain_tuning.tile);
  detail::launch(&detail::grouped_weights_plain_kernel<A, B, G>,
                 name,
                 dim3(order.tiles(), static_cast<unsigned>(groups.experts())),
                 dim3(detail::plain_threads),
                 0,
                 exec.stream(),
                 p,
                 order);
}

}  // namespace moe
