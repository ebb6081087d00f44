#pragma once
// What the warpgroups of a warp-specialised product share: how large tiles are, where things lie in
// shared memory, and the tiles that a block takes, one after the other.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/grouped_tiles.cuh>
#include <moe/exec/cuda/hopper/stage_ring.cuh>
#include <moe/exec/cuda/shared_tile.cuh>
#include <moe/exec/tensor_core_operands.hpp>

namespace moe::detail {

// Of the warp-specialised products; another one derives from it. None of it changes a result's
// bits. (A type, as nvcc 13.0 has no kernels whose template parameters are values of a struct.)
struct HopperTuning {
  static constexpr int stages = 4;  // of 48 KiB; 3 at least
  // How many steps of 64 k's the first warpgroup of results is ahead of the second, at most
  // `stages`: one's results are then stored while the other multiplies. Stages that it holds are
  // not there to hide the copies' latency.
  static constexpr int lead = 1;
  // Blocks in a cluster, 1 or 2: they take row tiles of one expert beside each other, and each
  // copies half of the tile of w for both.
  static constexpr int cluster = 1;
  // Two where experts have so many rows on average: w then has a large part of the memory's time,
  // and fewer rows have no use for a second block. (On an H200 gemm_bench_cuda's specialised_pairs
  // are 1.2 to 1.27 times as fast as specialised with 256 rows, and not with 1,536 or more.)
  static constexpr index_t pairs_from = 129, pairs_to = 1024;
  // Waits end in a trap after a few seconds, for a test whose kernel may hang.
  static constexpr bool trap_when_stuck = false;
};

template <class Tuning>
struct InPairs : Tuning {
  static constexpr int cluster = 2;
};
template <class Tuning>
constexpr bool choose_pairs(RowGroups<Cuda> const& groups)
{
  index_t const experts = groups.experts();
  return groups.rows >= Tuning::pairs_from * experts && groups.rows <= Tuning::pairs_to * experts;
}
template <class Tuning>
inline constexpr bool may_choose_pairs =
    Tuning::cluster == 1 && Tuning::pairs_from <= Tuning::pairs_to;

// A warpgroup that copies operands to shared memory, and two that multiply them: 64 rows each of a
// tile's 128.
struct HopperTile {
  static constexpr int rows = 128, columns = 256, depth = hopper_step;
  static constexpr int threads = 384, copying = 128, multiplying = 256;
  static constexpr int copy_registers = 72, multiply_registers = 216;  // of 168 at the launch

  static constexpr int a_bytes = rows * depth * 2, b_bytes = columns * depth * 2;
  static constexpr int stage_bytes = a_bytes + b_bytes;
  // Boxes of 64 x 64 results on their way to device memory: two for each warpgroup, beside those
  // that a tile's last stages have room for (StageProducts::place()).
  static constexpr int box_bytes = 64 * 64 * 2, boxes = 2;
};
static_assert(HopperTile::copy_registers * HopperTile::copying +
                  HopperTile::multiply_registers * HopperTile::multiplying <=
              168 * HopperTile::threads);

template <class Tuning>
struct HopperMemory {
  using Tile = HopperTile;
  using Ring = StageRing<Tuning::stages, Tuning::trap_when_stuck, Tuning::cluster>;
  unsigned char stage[Tuning::stages][Tile::stage_bytes];
  unsigned char box[2][Tile::boxes][Tile::box_bytes];
  // Of the tile whose first step is in a stage: the copying warps know tiles, and tell the others.
  // Expert -1: no more.
  GroupedTile tile[Tuning::stages];
  Ring ring;

  __device__ unsigned char* a(int s) { return stage[s]; }
  __device__ unsigned char* b(int s) { return stage[s] + Tile::a_bytes; }
};
template <class Tuning>
inline constexpr int hopper_shared_bytes = static_cast<int>(sizeof(HopperMemory<Tuning>));

// The tiles of a rows product that this block takes: expert after expert, so that its rows of a and
// of w are read from device memory once where they fit the second-level cache, and in TileOrder's
// order of an expert's. All lanes of a warp ask together, and every warp that asks is given the
// same.
class RowTileWalk {
 public:
  // Tiles of so many columns of the result. The order's row tiles are a cluster's: of each a block
  // takes its own 128 rows, which may be none (m0 >= m1).
  __device__ RowTileWalk(RowGroups<Cuda> const& groups,
                         TileOrder const& order,
                         int columns,
                         int cluster)
      : search_{groups, HopperTile::rows * cluster},
        order_{order},
        columns_{columns},
        first_row_{static_cast<int>(blockIdx.x) % cluster * HopperTile::rows},
        step_{gridDim.x / static_cast<unsigned>(cluster)},
        block_{blockIdx.x / static_cast<unsigned>(cluster)}
  {
  }
  __device__ __forceinline__ GroupedTile next()  // expert -1: no more
  {
    for (; block_ < order_.tiles(); block_ += step_) {
      auto const of = search_.expert_of(block_ / order_.column_tiles);
      if (of.expert >= 0) {
        TileOrder of_expert = order_;
        of_expert.row_tiles = static_cast<std::uint32_t>(of.count);
        auto const at =
            of_expert(block_ - static_cast<std::uint32_t>(of.before) * order_.column_tiles);
        auto tile = search_.tile_of(of.expert, at.row);
        tile.n0   = static_cast<Id>(at.column) * columns_;
        tile.m0 += first_row_;
        block_ += step_;
        return tile;
      }
    }
    return {-1, 0, 0, 0};
  }

 private:
  RowTileSearch search_;
  TileOrder order_;
  int columns_, first_row_;
  std::uint32_t step_, block_;
};

}  // namespace moe::detail
