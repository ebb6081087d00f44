#pragma once
// What a warp-specialised product of weights' gradients is given, what its warpgroups share, and
// the tiles that a block takes.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/tensor_map.cuh>
#include <moe/exec/cuda/hopper/tile_walk.cuh>

namespace moe::detail {

// As HopperTuning. No other product has so many bytes to read and write for a tile of results, so
// that here one warpgroup is ahead: the other multiplies while it does.
struct WeightsTuning : HopperTuning {
  static constexpr int lead = 1;
  // How many steps before its last one a tile's old gradients are asked for, so that not all blocks
  // read theirs at once, with nothing to multiply meanwhile. Those that have no place yet, or need
  // none, go to the second-level cache; 0: they do not.
  static constexpr int old_ahead = 6;
};

// dw(e) (M, N) = or += sum over rows r of e of a(r) (M) b(r) (N): the same product as the other
// kernels' (p), with tensor maps for what a thread has the hardware copy.
template <class T, class G>
struct WeightsProduct {
  // Whether gradients are added to here, in shared memory; floats are where they lie, by the
  // hardware that stores them.
  static constexpr bool adds_here = sizeof(G) == 2;

  CUtensorMap a_map, b_map;  // of those without an index; ragged, boxes of 64 rows
  CUtensorMap old_map;       // dw (L, M, N), boxes of a warpgroup's 64 rows
  CUtensorMap dw_map;        // the same, boxes of a warp's 16 rows
  GroupedProduct<T, T, G> p;
  TileOrder order;  // of one expert's tiles

  __device__ bool adds() const { return p.result == Result::add; }
};

// A tile of dw(expert) and the rows [k0, k1) that it is a sum over.
struct WeightsTile {
  Id expert;  // -1: none
  Id m0, n0;
  Id k0, k1;  // equal: no rows, and the gradients are zeros
};

// A tile's results on their way to device memory, with what they are added to: boxes of 64 rows and
// 128 bytes, those of a warpgroup beside each other. The first ones have memory of their own, the
// others take stages of the ring behind the tile's operands. So none waits for another, and at
// least one stage has the next tile's operands meanwhile.
struct GradientBoxes {
  static constexpr int bytes     = 64 * 128;
  static constexpr int own       = 2;                                      // of a warpgroup
  static constexpr int per_stage = HopperTile::stage_bytes / (2 * bytes);  // likewise
  template <class G>
  static constexpr int columns = 128 / static_cast<int>(sizeof(G));
  template <class G>
  static constexpr int most = HopperTile::columns / columns<G>;

  // Of a tile of which so many columns exist.
  template <class G>
  __device__ __forceinline__ static int count(int tile_columns)
  {
    return tile_columns < HopperTile::columns ? (tile_columns + columns<G> - 1) / columns<G>
                                              : most<G>;
  }
  static constexpr __host__ __device__ int stages(int boxes)
  {
    return boxes <= own ? 0 : (boxes - own + per_stage - 1) / per_stage;
  }
};

template <class Tuning>
struct WeightsMemory {
  using Tile = HopperTile;
  unsigned char stage[Tuning::stages][Tile::stage_bytes];
  unsigned char box[2][GradientBoxes::own][GradientBoxes::bytes];  // of each warpgroup
  WeightsTile tile[Tuning::stages];  // whose first step is in a stage; expert -1: no more
  StageRing<Tuning::stages, Tuning::trap_when_stuck> ring;
  StageRing<1, Tuning::trap_when_stuck> boxes;  // all of `box`, once for a tile

  __device__ unsigned char* a(int s) { return stage[s]; }
  __device__ unsigned char* b(int s) { return stage[s] + Tile::a_bytes; }
  // A warpgroup's boxes in a stage.
  __device__ unsigned char* boxes_in(int s, int warpgroup)
  {
    return stage[s] + warpgroup * (GradientBoxes::per_stage * GradientBoxes::bytes);
  }
};
template <class Tuning>
inline constexpr int weights_shared_bytes = static_cast<int>(sizeof(WeightsMemory<Tuning>));
static_assert(weights_shared_bytes<WeightsTuning> <= 227 * 1024);

// The tiles of this block. Every thread that asks is given the same.
class WeightsTileWalk {
 public:
  // Also those without rows to sum over, or not.
  __device__ WeightsTileWalk(RowGroups<Cuda> const& groups, TileOrder const& order, bool all)
      : groups_{groups},
        order_{order},
        tiles_{std::uint64_t{order.tiles()} * static_cast<std::uint64_t>(groups.experts())},
        all_{all}
  {
  }
  __device__ __forceinline__ WeightsTile next()  // expert -1: no more
  {
    for (; block_ < tiles_; block_ += gridDim.x) {
      Id const e     = groups_.first + static_cast<Id>(block_ / order_.tiles());
      Id const begin = static_cast<Id>(groups_.begin(e)), end = static_cast<Id>(groups_.end(e));
      if (begin == end && !all_) { continue; }
      auto const at = order_(static_cast<std::uint32_t>(block_ % order_.tiles()));
      block_ += gridDim.x;
      return {e,
              static_cast<Id>(at.row) * HopperTile::rows,
              static_cast<Id>(at.column) * HopperTile::columns,
              begin,
              end};
    }
    return {-1, 0, 0, 0, 0};
  }

 private:
  RowGroups<Cuda> const& groups_;
  TileOrder const& order_;
  std::uint64_t tiles_;
  bool all_;
  std::uint64_t block_ = blockIdx.x;  // of all experts' tiles
};

}  // namespace moe::detail
