#pragma once
// What a call of the grouped products computes, and which tile of it a block takes.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda.cuh>
#include <moe/expert/expert_rows.hpp>

namespace moe::detail {

// Stored rows of an operand: row r is base + pointer(r) * stride, found through `index` where there
// is one, and -1 is a row of zeros.
template <class T>
struct StoredRows {
  T const* base;
  index_t stride;   // elements
  Id const* index;  // or null

  __device__ T const* row(index_t r) const  // null for a row of zeros
  {
    index_t const at = index == nullptr ? r : index_t{index[r]};
    return at < 0 ? nullptr : base + at * stride;
  }
};

// Either c(r) (N) = a(r) (K) . op(w(e)) + bias(e) for the rows r of every expert, or, with
// `weights`, dw(e) (M, N) += sum over rows r of e of a(r) (M) b(r) (N).
template <class TA, class TB, class C>
struct GroupedProduct {
  RowGroups<Cuda> groups;
  StoredRows<TA> a;
  StoredRows<TB> b;  // rows of w(e) follow those of w(e - 1), w_rows each
  index_t m, n, k;   // m where it is the same for all experts, likewise k
  index_t w_rows;    // of w, or of dw
  TB const* bias;    // (L, N) or null; of the rows kind only
  C* c;
};

// One tile of an expert: rows [m0, m1) and columns from n0 of its result.
struct GroupedTile {
  Id expert;       // -1: none, the block is past the last tile
  index_t m0, m1;  // rows kind: absolute rows; weights kind: rows of dw(e)
  index_t n0;
};

// Upper bound that the host knows on the number of row tiles of all experts.
inline index_t row_tiles_bound(RowGroups<Cuda> const& groups, int tile_rows)
{
  index_t const experts = groups.experts() < groups.rows ? index_t{groups.experts()} : groups.rows;
  return groups.rows / tile_rows + experts;
}

// Of the rows kind: which expert's rows the `tile`-th row tile has. Every lane of one warp calls
// it.
__device__ inline GroupedTile find_row_tile(RowGroups<Cuda> const& groups,
                                            index_t tile,
                                            int tile_rows)
{
  int const lane = static_cast<int>(threadIdx.x % 32);
  index_t before = 0;
  for (Id first = groups.first; first < groups.last; first += 32) {
    Id const e         = first + lane;
    index_t const rows = e < groups.last ? groups.end(e) - groups.begin(e) : index_t{0};
    index_t const mine = (rows + tile_rows - 1) / tile_rows;
    index_t through    = mine;  // tiles up to and with expert e
    for (int step = 1; step < 32; step *= 2) {
      index_t const other = __shfl_up_sync(~0u, through, step);
      if (lane >= step) { through += other; }
    }
    unsigned const here = __ballot_sync(~0u, before + through > tile);
    if (here != 0) {
      int const owner        = __ffs(static_cast<int>(here)) - 1;
      index_t const previous = __shfl_sync(~0u, before + through - mine, owner);
      Id const expert        = first + owner;
      index_t const m0       = groups.begin(expert) + (tile - previous) * tile_rows;
      return {expert, m0, groups.end(expert), 0};
    }
    before += __shfl_sync(~0u, through, 31);
  }
  return {-1, 0, 0, 0};
}

// Blocks that run together share operands: `width` column tiles beside each other for one row tile
// after the other.
struct TileOrder {
  index_t row_tiles, column_tiles;
  static constexpr index_t width = 8;

  struct At {
    index_t row, column;
  };
  __device__ At operator()(index_t block) const
  {
    index_t const full    = column_tiles / width * width;
    index_t const in_full = full * row_tiles;
    if (block < in_full) {
      index_t const band = block / (width * row_tiles), in_band = block % (width * row_tiles);
      return {in_band / width, band * width + in_band % width};
    }
    index_t const rest = column_tiles - full;
    return {(block - in_full) / rest, full + (block - in_full) % rest};
  }
};

}  // namespace moe::detail
