#pragma once
// The grouped products on tensor cores, for Half and BFloat16 on sm_80 and newer. Every element is
// one chain over ascending k, so its bits depend on its own rows and columns alone.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/wgmma_pipeline.cuh>

namespace moe::detail {

// By what this architecture has.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
template <class T, Major A, Major B>
using TilePipeline = WgmmaPipeline<T, A, B>;
#else
template <class T, Major A, Major B>
using TilePipeline = MmaPipeline<T, A, B>;
#endif
// The two have tiles of one size, so that a launch need not know which it is.
inline constexpr int tile_rows = mma_tuning.rows, tile_columns = mma_tuning.columns;
static_assert(wgmma_tuning.rows == tile_rows && wgmma_tuning.columns == tile_columns);
inline int tile_shared_bytes(bool hopper)
{
  return hopper ? WgmmaPipeline<Half, Major::k, Major::k>::shared_bytes
                : MmaPipeline<Half, Major::k, Major::k>::shared_bytes;
}

// Blocks stay and take tile after tile, until next() gives none; a tile's first copies run while
// the results of the one before are stored.
template <class Pipeline, class Next, class Start, class Store>
__device__ __forceinline__ void for_each_tile(Pipeline& pipeline,
                                              Next const& next,
                                              Start const& start,
                                              Store const& store)
{
  GroupedTile done{-1, 0, 0, 0}, tile = next();
  while (true) {
    if (tile.expert >= 0) { start(tile); }
    if (done.expert >= 0) { store(done); }
    if (tile.expert < 0) { return; }
    pipeline.multiply();
    done = tile;
    tile = next();
  }
}

// c(r) = a(r) op(w(e)) + bias(e). B is Major::k for w (L, N, K), Major::lanes for w (L, K, N).
template <class T, class C, Major B>
__global__ void __launch_bounds__(tile_threads, 1)
    grouped_rows_mma_kernel(GroupedProduct<T, T, C> const p, TileOrder const order)
{
  extern __shared__ __align__(1024) unsigned char mma_shared[];
  TilePipeline<T, Major::k, B> pipeline(mma_shared);
  RowTileSearch search(p.groups, tile_rows);
  std::uint32_t block = blockIdx.x;

  auto const next = [&] {
    for (; block < order.tiles(); block += gridDim.x) {
      auto const at = order(block);
      auto tile     = search(at.row);
      if (tile.expert >= 0) {
        tile.n0 = static_cast<Id>(at.column) * tile_columns;
        block += gridDim.x;
        return tile;
      }
    }
    return GroupedTile{-1, 0, 0, 0};
  };
  auto const start = [&](GroupedTile const& tile) {
    StoredRows<T> w = p.b;
    w.base += index_t{tile.expert} * p.w_rows * p.b.stride;
    pipeline.start(p.a, tile.m0, tile.m1, w, tile.n0, p.n, 0, p.k);
  };
  auto const store = [&](GroupedTile const& tile) {
    int const n = static_cast<int>(p.n), rows = tile.m1 - tile.m0, columns = n - tile.n0;
    C* const c          = p.c + tile.m0 * p.n + tile.n0;
    T const* const bias = p.bias == nullptr ? nullptr : p.bias + tile.expert * p.n + tile.n0;
    pipeline.for_each_eight(
        [&](int, int j) {
          return bias != nullptr && j < columns ? load_eight(bias + j) : Eight<T>{};
        },
        [&](int i, int j, float(&x)[4][2], Eight<T> const& add) {
          if (i < rows && j < columns) { store_eight(sum<C>(add, x), c + index_t{i} * n + j); }
        });
  };

  for_each_tile(pipeline, next, start, store);
}

// dw(e) (M, N) = or += sum over rows of e of a(r) b(r)^T
template <class T, class C>
__global__ void __launch_bounds__(tile_threads, 1)
    grouped_weights_mma_kernel(GroupedProduct<T, T, C> const p, TileOrder const order)
{
  extern __shared__ __align__(1024) unsigned char mma_shared[];
  TilePipeline<T, Major::lanes, Major::lanes> pipeline(mma_shared);
  std::uint64_t const tiles = std::uint64_t{order.tiles()} * p.groups.experts();
  std::uint64_t block       = blockIdx.x;  // of all experts' tiles
  bool const add            = p.result == Result::add;

  auto const next = [&] {
    for (; block < tiles; block += gridDim.x) {
      Id const e = p.groups.first + static_cast<Id>(block / order.tiles());
      if (add && p.groups.begin(e) == p.groups.end(e)) { continue; }
      auto const at = order(static_cast<std::uint32_t>(block % order.tiles()));
      block += gridDim.x;
      return GroupedTile{e,
                         static_cast<Id>(at.row) * tile_rows,
                         static_cast<Id>(p.m),
                         static_cast<Id>(at.column) * tile_columns};
    }
    return GroupedTile{-1, 0, 0, 0};
  };
  auto const start = [&](GroupedTile const& tile) {
    index_t const begin = p.groups.begin(tile.expert), end = p.groups.end(tile.expert);
    pipeline.start(p.a, tile.m0, p.m, p.b, tile.n0, p.n, begin, end);
  };
  auto const store = [&](GroupedTile const& tile) {
    int const n = static_cast<int>(p.n), rows = tile.m1 - tile.m0, columns = n - tile.n0;
    C* const dw = p.c + (index_t{tile.expert} * p.m + tile.m0) * p.n + tile.n0;
    // Without a step there is no product: what the pipeline holds is another tile's.
    bool const summed = p.groups.begin(tile.expert) != p.groups.end(tile.expert);
    pipeline.for_each_eight(
        [&](int i, int j) {
          bool const old = add && i < rows && j < columns;
          return old ? load_eight(dw + index_t{i} * n + j) : Eight<C>{};
        },
        [&](int i, int j, float(&x)[4][2], Eight<C> const& old) {
          if (i < rows && j < columns) {
            store_eight(summed ? sum<C>(old, x) : Eight<C>{}, dw + index_t{i} * n + j);
          }
        });
  };

  for_each_tile(pipeline, next, start, store);
}

}  // namespace moe::detail
