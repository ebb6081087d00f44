#pragma once
// The grouped products by plain multiply-adds in fp32: for float, for mixed element types and for
// extents that the tensor-core kernel's 16-byte copies cannot take. One chain over ascending k.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/grouped_tiles.cuh>
#include <moe/exec/gemm.hpp>

namespace moe::detail {

struct PlainTuning {
  int tile;  // rows and columns of a block's tile
  int depth;
  int each;  // rows and columns of a thread's part
};
inline constexpr PlainTuning plain_tuning{.tile = 64, .depth = 16, .each = 4};
inline constexpr int plain_threads = 256;  // 16 x 16

// load(lane, k) of both operands -> acc (4, 4) of this thread
template <class LoadA, class LoadB>
__device__ void plain_tile(
    index_t k_begin, index_t k_end, LoadA const& load_a, LoadB const& load_b, float (&acc)[4][4])
{
  constexpr int tile = plain_tuning.tile, depth = plain_tuning.depth, each = plain_tuning.each;
  __shared__ float a[depth][tile + 1], b[depth][tile + 1];
  int const ty = static_cast<int>(threadIdx.x) / 16, tx = static_cast<int>(threadIdx.x) % 16;
  for (index_t k = k_begin; k < k_end; k += depth) {
    for (int i = static_cast<int>(threadIdx.x); i < tile * depth; i += plain_threads) {
      int const lane = i / depth, kk = i % depth;
      bool const live = k + kk < k_end;
      a[kk][lane]     = live ? load_a(lane, k + kk) : 0.f;
      b[kk][lane]     = live ? load_b(lane, k + kk) : 0.f;
    }
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < depth; ++kk) {
      float ra[each], rb[each];
#pragma unroll
      for (int i = 0; i < each; ++i) {
        ra[i] = a[kk][ty + 16 * i];
        rb[i] = b[kk][tx + 16 * i];
      }
#pragma unroll
      for (int i = 0; i < each; ++i) {
#pragma unroll
        for (int j = 0; j < each; ++j) {
          acc[i][j] += ra[i] * rb[j];
        }
      }
    }
    __syncthreads();
  }
}

template <class TA, class TB, class C>
__global__ void __launch_bounds__(plain_threads)
    grouped_rows_plain_kernel(GroupedProduct<TA, TB, C> p, Transpose tw, TileOrder order)
{
  auto const at    = order(blockIdx.x);
  auto const tile  = RowTileSearch(p.groups, plain_tuning.tile)(at.row);
  index_t const n0 = at.column * plain_tuning.tile;
  if (tile.expert < 0) { return; }
  TB const* const w      = p.b.base + index_t{tile.expert} * p.w_rows * p.b.stride;
  index_t const n_stride = tw == Transpose::yes ? p.b.stride : 1;
  index_t const k_stride = tw == Transpose::yes ? 1 : p.b.stride;
  auto const load_a      = [&](int lane, index_t k) {
    index_t const r        = tile.m0 + lane;
    TA const* const stored = r < tile.m1 ? p.a.row(r) : nullptr;
    return stored == nullptr ? 0.f : static_cast<float>(stored[k]);
  };
  auto const load_b = [&](int lane, index_t k) {
    index_t const n = n0 + lane;
    if (n >= p.n) { return 0.f; }
    return static_cast<float>(w[n * n_stride + k * k_stride]);
  };
  float acc[4][4] = {};
  plain_tile(0, p.k, load_a, load_b, acc);
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      index_t const r = tile.m0 + threadIdx.x / 16 + 16 * i, n = n0 + threadIdx.x % 16 + 16 * j;
      if (r >= tile.m1 || n >= p.n) { continue; }
      float x = acc[i][j];
      if (p.bias != nullptr) { x += static_cast<float>(p.bias[tile.expert * p.n + n]); }
      p.c[r * p.n + n] = static_cast<C>(x);
    }
  }
}

template <class TA, class TB, class C>
__global__ void __launch_bounds__(plain_threads)
    grouped_weights_plain_kernel(GroupedProduct<TA, TB, C> p, TileOrder order)
{
  Id const e          = p.groups.first + static_cast<Id>(blockIdx.y);
  index_t const begin = p.groups.begin(e), end = p.groups.end(e);
  bool const add = p.result == Result::add;
  if (add && begin == end) { return; }
  auto const at    = order(blockIdx.x);
  index_t const m0 = at.row * plain_tuning.tile, n0 = at.column * plain_tuning.tile;
  auto const load_a = [&](int lane, index_t r) {
    TA const* const stored = m0 + lane < p.m ? p.a.row(r) : nullptr;
    return stored == nullptr ? 0.f : static_cast<float>(stored[m0 + lane]);
  };
  auto const load_b = [&](int lane, index_t r) {
    TB const* const stored = n0 + lane < p.n ? p.b.row(r) : nullptr;
    return stored == nullptr ? 0.f : static_cast<float>(stored[n0 + lane]);
  };
  float acc[4][4] = {};
  plain_tile(begin, end, load_a, load_b, acc);
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      index_t const m = m0 + threadIdx.x / 16 + 16 * i, n = n0 + threadIdx.x % 16 + 16 * j;
      if (m >= p.m || n >= p.n) { continue; }
      C* const out = p.c + (index_t{e} * p.m + m) * p.n + n;
      *out         = static_cast<C>(add ? static_cast<float>(*out) + acc[i][j] : acc[i][j]);
    }
  }
}

}  // namespace moe::detail
