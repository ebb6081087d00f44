#pragma once
// The dense product by plain multiply-adds in fp32: the library's own, for any element types.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/core/error.hpp>
#include <moe/exec/cuda/grouped_plain.cuh>

namespace moe::detail {

// c (M, N) = or += op(a) (M, K) op(b) (K, N). A block per tile of c; an element is one chain over
// ascending k, so its bits depend on its row of op(a) and its column of op(b) alone.
template <class TA, class TB, class C>
__global__ void __launch_bounds__(plain_threads) plain_gemm_kernel(Transpose ta,
                                                                   View<TA const, 2, Cuda> a,
                                                                   Transpose tb,
                                                                   View<TB const, 2, Cuda> b,
                                                                   bool add,
                                                                   View<C, 2, Cuda> c)
{
  constexpr int tile     = plain_tuning.tile;
  index_t const tiles_n  = (c.extent(1) + tile - 1) / tile;
  index_t const m0       = index_t{blockIdx.x} / tiles_n * tile;
  index_t const n0       = index_t{blockIdx.x} % tiles_n * tile;
  index_t const k_end    = a.extent(ta == Transpose::no ? 1 : 0);
  index_t const m_stride = ta == Transpose::no ? a.extent(1) : 1;
  index_t const a_stride = ta == Transpose::no ? 1 : a.extent(1);
  index_t const n_stride = tb == Transpose::no ? 1 : b.extent(1);
  index_t const b_stride = tb == Transpose::no ? b.extent(1) : 1;
  TA const* const from_a = a.data_handle();
  TB const* const from_b = b.data_handle();
  auto const load_a      = [&](int lane, index_t k) {
    index_t const m = m0 + lane;
    return m < c.extent(0) ? static_cast<float>(from_a[m * m_stride + k * a_stride]) : 0.f;
  };
  auto const load_b = [&](int lane, index_t k) {
    index_t const n = n0 + lane;
    return n < c.extent(1) ? static_cast<float>(from_b[n * n_stride + k * b_stride]) : 0.f;
  };
  float acc[4][4] = {};
  plain_tile(0, k_end, load_a, load_b, acc);
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      index_t const m = m0 + threadIdx.x / 16 + 16 * i, n = n0 + threadIdx.x % 16 + 16 * j;
      if (m >= c.extent(0) || n >= c.extent(1)) { continue; }
      float const old = add ? static_cast<float>(c(m, n)) : 0.f;
      c(m, n)         = static_cast<C>(add ? old + acc[i][j] : acc[i][j]);
    }
  }
}

template <class TA, class TB, class C>
void plain_gemm(Cuda const& exec,
                Transpose ta,
                View<TA const, 2, Cuda> a,
                Transpose tb,
                View<TB const, 2, Cuda> b,
                Result result,
                View<C, 2, Cuda> c)
{
  index_t const tile  = plain_tuning.tile;
  index_t const tiles = (c.extent(0) + tile - 1) / tile * ((c.extent(1) + tile - 1) / tile);
  if (tiles == 0) { return; }
  Check{"moe::gemm"}.at_most("tiles of c", tiles, "a launch's blocks", (index_t{1} << 31) - 1);
  launch(&plain_gemm_kernel<TA, TB, C>,
         "moe::gemm",
         dim3(static_cast<unsigned>(tiles)),
         dim3(plain_threads),
         0,
         exec.stream(),
         ta,
         a,
         tb,
         b,
         result == Result::add,
         c);
}

}  // namespace moe::detail
