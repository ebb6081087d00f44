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
  using element = T;
  // A tile's 256 columns are so many parts of w beside each other, of equal width: w (L, parts N,
  // K). A product of several parts has its own store_rows().
  static constexpr int parts = 1;
  // Whether store_rows() reads a stage of the ring for each 64 columns of its tile, which
  // copy_for_store() fills.
  static constexpr bool store_reads = false;

  CUtensorMap a_map;  // where a has no index: its rows, boxes of 64
  // w (parts L, N, K), boxes of w_box_rows, or w (L, K, N), of 64
  CUtensorMap w_map;
  CUtensorMap c_map;  // ragged, boxes of 64 rows
  GroupedProduct<T, T, T> p;
  TileOrder order;
};

// Rows of a box of w (L, N, K): parts of a tile, or what each block of a cluster copies.
template <class Product, class Tuning>
inline constexpr int w_box_rows =
    HopperTile::columns / (Product::parts > Tuning::cluster ? Product::parts : Tuning::cluster);

}  // namespace moe::detail
