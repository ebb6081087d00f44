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
  // With how many steps left to copy a tile's old gradients are brought to the second-level cache,
  // to be near when they are added to; 0: not at all.
  static constexpr int old_ahead = 2;
};

// dw(e) (M, N) += sum over rows r of e of a(r) (M) b(r) (N): the same product as the other kernels'
// (p), with tensor maps for what a thread has the hardware copy.
template <class T, class G>
struct WeightsProduct {
  CUtensorMap a_map, b_map;  // of those without an index; ragged, boxes of 64 rows
  GroupedProduct<T, T, G> p;
  TileOrder order;  // of one expert's tiles
};

// A tile of dw(expert) and the rows [k0, k1) that it is a sum over.
struct WeightsTile {
  Id expert;  // -1: none
  Id m0, n0;
  Id k0, k1;
};

template <class Tuning>
struct WeightsMemory {
  using Ring = StageRing<Tuning::stages, Tuning::trap_when_stuck>;
  unsigned char stage[Tuning::stages][HopperTile::stage_bytes];
  WeightsTile tile[Tuning::stages];  // whose first step is in a stage; expert -1: no more
  Ring ring;

  __device__ unsigned char* a(int s) { return stage[s]; }
  __device__ unsigned char* b(int s) { return stage[s] + HopperTile::a_bytes; }
};
template <class Tuning>
inline constexpr int weights_shared_bytes = static_cast<int>(sizeof(WeightsMemory<Tuning>));

// The tiles of this block, which have rows to sum over. Every thread that asks is given the same.
class WeightsTileWalk {
 public:
  __device__ WeightsTileWalk(RowGroups<Cuda> const& groups, TileOrder const& order)
      : groups_{groups},
        order_{order},
        tiles_{std::uint64_t{order.tiles()} * static_cast<std::uint64_t>(groups.experts())}
  {
  }
  __device__ __forceinline__ WeightsTile next()  // expert -1: no more
  {
    for (; block_ < tiles_; block_ += gridDim.x) {
      Id const e     = groups_.first + static_cast<Id>(block_ / order_.tiles());
      Id const begin = static_cast<Id>(groups_.begin(e)), end = static_cast<Id>(groups_.end(e));
      if (begin == end) { continue; }
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
  std::uint64_t block_ = blockIdx.x;  // of all experts' tiles
};

}  // namespace moe::detail
