#pragma once
// What a call of the grouped products computes, and which tile of it a block takes.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda.cuh>
#include <moe/exec/gemm.hpp>
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
// `weights`, dw(e) (M, N) = or += sum over rows r of e of a(r) (M) b(r) (N).
template <class TA, class TB, class C>
struct GroupedProduct {
  RowGroups<Cuda> groups;
  StoredRows<TA> a;
  StoredRows<TB> b;  // rows of w(e) follow those of w(e - 1), w_rows each
  index_t m, n, k;   // m where it is the same for all experts, likewise k
  index_t w_rows;    // of w, or of dw
  TB const* bias;    // (L, N) or null; of the rows kind only
  C* c;
  Result result = Result::add;  // of the weights kind; the rows kind overwrites
};

// One tile of an expert's result. Rows are numbered by 32-bit ids.
struct GroupedTile {
  Id expert;      // -1: none
  Id m0, m1, n0;  // rows [m0, m1), absolute or, of weights, of dw(e); columns from n0 on
};

// Upper bound that the host knows on the number of row tiles of all experts.
inline index_t row_tiles_bound(RowGroups<Cuda> const& groups, int tile_rows)
{
  index_t const experts = groups.experts() < groups.rows ? index_t{groups.experts()} : groups.rows;
  return groups.rows / tile_rows + experts;
}

// An expert's row tiles: those of the experts before it are `before`.
struct ExpertRowTiles {
  Id expert;  // -1: none
  index_t before, count;
};

// Of the rows kind: which expert's rows the `tile`-th row tile has. All lanes of a warp ask
// together; asked in ascending order, it goes on from where it was.
class RowTileSearch {
 public:
  __device__ RowTileSearch(RowGroups<Cuda> const& groups, int tile_rows)
      : groups_{groups}, tile_rows_{tile_rows}, first_{groups.first}
  {
  }
  __device__ GroupedTile operator()(index_t tile)
  {
    auto const of = expert_of(tile);
    return of.expert < 0 ? GroupedTile{-1, 0, 0, 0} : tile_of(of.expert, tile - of.before);
  }
  __device__ GroupedTile tile_of(Id expert, index_t its_tile) const
  {
    index_t const m0 = groups_.begin(expert) + its_tile * tile_rows_;
    return {expert, static_cast<Id>(m0), static_cast<Id>(groups_.end(expert)), 0};
  }
  __device__ ExpertRowTiles expert_of(index_t tile)
  {
    if (tile < before_) {
      first_  = groups_.first;
      before_ = 0;
    }
    int const lane = static_cast<int>(threadIdx.x % 32);
    for (; first_ < groups_.last; first_ += 32) {
      Id const e         = first_ + lane;
      index_t const rows = e < groups_.last ? groups_.end(e) - groups_.begin(e) : index_t{0};
      index_t const mine = (rows + tile_rows_ - 1) / tile_rows_;
      index_t through    = mine;  // tiles up to and with expert e
      for (int step = 1; step < 32; step *= 2) {
        index_t const other = __shfl_up_sync(~0u, through, step);
        if (lane >= step) { through += other; }
      }
      unsigned const here = __ballot_sync(~0u, before_ + through > tile);
      if (here != 0) {
        int const owner = __ffs(static_cast<int>(here)) - 1;
        return {first_ + owner,
                __shfl_sync(~0u, before_ + through - mine, owner),
                __shfl_sync(~0u, mine, owner)};
      }
      before_ += __shfl_sync(~0u, through, 31);
    }
    return {-1, 0, 0};
  }

 private:
  RowGroups<Cuda> groups_;
  int tile_rows_;
  Id first_;            // of the 32 experts that it looks at
  index_t before_ = 0;  // tiles of the experts before them
};

// Blocks that run together share operands: `width` column tiles beside each other for one row tile
// after the other.
struct TileOrder {
  std::uint32_t row_tiles, column_tiles;
  static constexpr std::uint32_t width = 8;

  TileOrder(index_t rows, index_t columns)
      : row_tiles{static_cast<std::uint32_t>(rows)},
        column_tiles{static_cast<std::uint32_t>(columns)}
  {
    Check{"moe::Cuda, a grouped product"}.that<OverflowError>(
        rows * columns < (index_t{1} << 31), "tiles", rows * columns, "below 2^31");
  }
  MOE_HOST_DEVICE std::uint32_t tiles() const { return row_tiles * column_tiles; }

  struct At {
    std::uint32_t row, column;
  };
  __device__ At operator()(std::uint32_t block) const
  {
    std::uint32_t const full    = column_tiles / width * width;
    std::uint32_t const in_full = full * row_tiles;
    if (block < in_full) {
      std::uint32_t const band    = block / (width * row_tiles);
      std::uint32_t const in_band = block % (width * row_tiles);
      return {in_band / width, band * width + in_band % width};
    }
    std::uint32_t const rest = column_tiles - full;
    return {(block - in_full) / rest, full + (block - in_full) % rest};
  }
};

}  // namespace moe::detail
