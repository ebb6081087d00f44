#pragma once
// What a warp-specialised rows product is given.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/tensor_map.cuh>
#include <moe/exec/cuda/hopper/tile_walk.cuh>

namespace moe::detail {

// c(r) (N) = a(r) (K) . op(w(e)) + bias(e): the same product as the other kernels' (p), with tensor
// maps for what a thread has the hardware copy.
template <class T>
struct RowsProduct {
  CUtensorMap a_map;  // where a has no index: its rows, boxes of 64
  CUtensorMap w_map;  // w (L, N, K), boxes of 256 rows, or w (L, K, N), boxes of 64
  CUtensorMap c_map;  // ragged, boxes of 64 rows
  GroupedProduct<T, T, T> p;
  TileOrder order;
};

}  // namespace moe::detail
