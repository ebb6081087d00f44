#pragma once
// What gradients were before, on its way to where a product's results are added to it.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/weights_product.cuh>

namespace moe::detail {

// A box to the second-level cache (cuda::ptx lacks it).
__device__ __forceinline__ void prefetch_box(CUtensorMap const& map, std::int32_t const (&at)[3])
{
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %3}];" ::"l"(&map),
               "r"(at[0]),
               "r"(at[1]),
               "r"(at[2])
               : "memory");
}

// By one thread, tile after tile: boxes for the tile's results become full, with the gradients
// before where they are added to there, and else as they are.
template <class T, class G, class Tuning>
class OldGradients {
  using Boxes = GradientBoxes;

 public:
  __device__ OldGradients(WeightsProduct<T, G> const& args, WeightsMemory<Tuning>& memory)
      : args_{args}, memory_{memory}
  {
  }
  // The step of a tile of so many after which to_own_boxes() is called. By then the boxes should be
  // empty, which they are when the tile's first step is multiplied.
  __device__ static int ask_after(int steps)
  {
    return max(steps - 1 - Tuning::old_ahead, min(steps - 1, Tuning::stages));
  }
  __device__ __forceinline__ void to_own_boxes(WeightsTile const& tile)
  {
    int const boxes = count(tile), own = min(boxes, Boxes::own);
    memory_.boxes.wait_empty(at_);
    at_.step<1>();
    fill(tile, 0, own, memory_.box[0][0], Boxes::own * Boxes::bytes, memory_.boxes, 0);
    if (Tuning::old_ahead > 0 && args_.adds()) {
      for (int box = args_.adds_here ? own : 0; box < boxes; ++box) {
        for (int warpgroup = 0; warpgroup < warpgroups(tile); ++warpgroup) {
          prefetch_box(args_.old_map,
                       {tile.n0 + box * Boxes::columns<G>, tile.m0 + warpgroup * 64, tile.expert});
        }
      }
    }
  }
  // The i-th stage behind the tile's operands, which is empty.
  __device__ __forceinline__ void to_stage(WeightsTile const& tile, int i, int stage)
  {
    int const first = Boxes::own + i * Boxes::per_stage;
    fill(tile,
         first,
         min(count(tile), first + Boxes::per_stage),
         memory_.stage[stage],
         Boxes::per_stage * Boxes::bytes,
         memory_.ring,
         stage);
  }

 private:
  __device__ int count(WeightsTile const& tile) const
  {
    return Boxes::count<G>(static_cast<int>(args_.p.n) - tile.n0);
  }
  __device__ int warpgroups(WeightsTile const& tile) const  // that have rows
  {
    return args_.p.m - tile.m0 > 64 ? 2 : 1;
  }
  // Boxes [first, last) of both warpgroups; `step` bytes lie between the one's and the other's.
  template <class Ring>
  __device__ __forceinline__ void fill(WeightsTile const& tile,
                                       int first,
                                       int last,
                                       unsigned char* to,
                                       int step,
                                       Ring& ring,
                                       int stage)
  {
    if (!args_.adds_here || !args_.adds()) {
      ring.fill(stage, 0);
      return;
    }
    ring.fill(stage, warpgroups(tile) * (last - first) * Boxes::bytes);
    for (int warpgroup = 0; warpgroup < warpgroups(tile); ++warpgroup) {
      for (int box = first; box < last; ++box) {
        load_box<3>(args_.old_map,
                    {tile.n0 + box * Boxes::columns<G>, tile.m0 + warpgroup * 64, tile.expert},
                    to + warpgroup * step + (box - first) * Boxes::bytes,
                    &ring.full[stage]);
      }
    }
  }

  WeightsProduct<T, G> const& args_;
  WeightsMemory<Tuning>& memory_;
  RingPlace at_;
};

}  // namespace moe::detail
