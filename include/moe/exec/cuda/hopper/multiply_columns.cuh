#pragma once
// The two multiplying warpgroups of a product of weights' gradients. A result is one chain over
// ascending rows, as in the other kernels: the same bits.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/instructions.cuh>
#include <moe/exec/cuda/hopper/store_gradients.cuh>
#include <moe/exec/cuda/hopper/weights_product.cuh>
#include <moe/exec/cuda/wgmma.cuh>

namespace moe::detail {

// Multiplies stage after stage into 64 x 256 results, as StageProducts does; both operands' stored
// rows are k's, and the last step has as many of them as there are.
template <class T, class Tuning>
class ColumnProducts {
  using ATile = SharedTile<Major::lanes, HopperTile::rows, HopperTile::depth>;
  using BTile = SharedTile<Major::lanes, HopperTile::columns, HopperTile::depth>;

 public:
  __device__ ColumnProducts(WeightsMemory<Tuning>& memory, int warpgroup, bool gathered)
      : memory_{memory},
        a_tile_{ATile::descriptor(shared_address(memory.a(0)), warpgroup * 64)},
        b_tile_{BTile::descriptor(shared_address(memory.b(0)), 0)},
        warpgroup_{warpgroup},
        gathered_{gathered}
  {
  }
  // The second warpgroup waits here until the first is ahead, or has multiplied its first tile,
  // whose results' places the two of them give back.
  __device__ __forceinline__ void begin()
  {
    if (Tuning::lead > 0 && warpgroup_ == 1) {
      barrier_wait(lead_barrier, HopperTile::multiplying);
    }
  }
  __device__ __forceinline__ void end()
  {
    let_second_begin();  // if there was no tile
    if (threadIdx.x % 32 == 0) {
      cuda::ptx::cp_async_bulk_wait_group(cuda::ptx::n32_t<0>{});  // all is written
    }
  }

  __device__ __forceinline__ WeightsTile next_tile()  // when its first step is here
  {
    memory_.ring.wait_full(at_);
    auto const tile = memory_.tile[at_.stage];
    __syncwarp();  // all lanes have read it before one of them gives the stage back
    return tile;
  }

  // Starts the products of k > 0 rows; finish() waits for the last ones.
  __device__ __forceinline__ void multiply(int k, float (&acc)[128])
  {
    int const full = k / HopperTile::depth, slices = (k % HopperTile::depth + 15) / 16;
    for (int step = 0; step < full; ++step) {
      begin_step();
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < HopperTile::depth / 16; ++i) {
        multiply_slice(i, step > 0 || i > 0, acc);
      }
      wgmma_commit();
      end_step(step == 0);
    }
    if (slices > 0) {  // rows past these are zeros, which would change nothing
      begin_step();
#pragma unroll
      for (int i = 0; i < HopperTile::depth / 16; ++i) {
        if (i < slices) {
          wgmma_fence();
          multiply_slice(i, full > 0 || i > 0, acc);
          wgmma_commit();
        }
      }
      end_step(full == 0);
    }
  }
  __device__ __forceinline__ void finish(float (&acc)[128])
  {
    wgmma_wait<0>();
#pragma unroll
    for (float& x : acc) {
      asm volatile("" : "+f"(x)::"memory");  // not read before here
    }
    release(before_);
    let_second_begin();
  }

  // This warpgroup's places for results, when they are here: its own boxes, and then those in the
  // next stage. Its warps hold them until what they store from there has been read.
  __device__ __forceinline__ unsigned char* take_boxes()
  {
    memory_.boxes.wait_full(boxes_at_);
    boxes_at_.template step<1>();
    held_ = 0;
    return memory_.box[warpgroup_][0];
  }
  __device__ __forceinline__ unsigned char* take_stage()
  {
    memory_.ring.wait_full(at_);
    if (held_ == 0) { first_held_ = at_.stage; }
    ++held_;
    unsigned char* const boxes = memory_.boxes_in(at_.stage, warpgroup_);
    at_.template step<Tuning::stages>();
    return boxes;
  }
  // All of them are on their way to device memory. With a stage that is not held the next tile can
  // begin before they have been read.
  template <int MostHeld>
  __device__ __forceinline__ void stored()
  {
    if (threadIdx.x % 32 == 0) { cuda::ptx::cp_async_bulk_commit_group(); }
    if constexpr (MostHeld >= Tuning::stages) { give_back(); }
  }

  // The stages of a tile of which this warpgroup has no rows: steps and boxes.
  __device__ __forceinline__ void skip(int k, int stages)
  {
    give_back();
    for (stages += (k + HopperTile::depth - 1) / HopperTile::depth; stages > 0; --stages) {
      memory_.ring.wait_full(at_);
      release(at_.stage);
      at_.template step<Tuning::stages>();
    }
    memory_.boxes.wait_full(boxes_at_);
    boxes_at_.template step<1>();
    if (threadIdx.x % 32 == 0) { memory_.boxes.release(0); }
  }

 private:
  static constexpr int lead_barrier = 3;

  __device__ __forceinline__ void begin_step()
  {
    memory_.ring.wait_full(at_);
    // Copies of 16 bytes are the threads' own writes, of which the tensor cores must be told.
    if (gathered_) { fence_shared_for_tensor_cores(); }
  }
  __device__ __forceinline__ void multiply_slice(int i, bool add, float (&acc)[128])
  {
    std::uint32_t const at = static_cast<std::uint32_t>(at_.stage) * (HopperTile::stage_bytes / 16);
    wgmma_64x256x16<T, true, true>(
        acc,
        a_tile_ + at + static_cast<std::uint32_t>(i * ATile::k_bytes / 16),
        b_tile_ + at + static_cast<std::uint32_t>(i * BTile::k_bytes / 16),
        add);
  }
  // A stage is released when the products of the next one have been started, and the places of a
  // tile's results when those of the next tile's first one have.
  __device__ __forceinline__ void end_step(bool first)
  {
    wgmma_wait<1>();
    if (first) {
      give_back();
    } else {
      release(before_);
    }
    before_ = at_.stage;
    at_.template step<Tuning::stages>();
    step_ahead();
  }
  __device__ __forceinline__ void release(int stage)
  {
    if (threadIdx.x % 32 == 0) { memory_.ring.release(stage); }
  }
  __device__ __forceinline__ void give_back()
  {
    if (held_ < 0) { return; }
    if (threadIdx.x % 32 == 0) {
      cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>{});
      memory_.boxes.release(0);
      for (; held_ > 0; --held_) {
        memory_.ring.release(first_held_);
        first_held_ = first_held_ + 1 == Tuning::stages ? 0 : first_held_ + 1;
      }
    }
    held_ = -1;
  }
  __device__ __forceinline__ void step_ahead()
  {
    if (lead_left_ == 1) { let_second_begin(); }
    if (lead_left_ > 0) { --lead_left_; }
  }
  __device__ __forceinline__ void let_second_begin()
  {
    if (Tuning::lead > 0 && warpgroup_ == 0 && lead_left_ > 0) {
      lead_left_ = 0;
      barrier_arrive(lead_barrier, HopperTile::multiplying);
    }
  }

  WeightsMemory<Tuning>& memory_;
  std::uint64_t a_tile_, b_tile_;  // of the first stage
  int warpgroup_;
  bool gathered_;
  RingPlace at_, boxes_at_;
  int before_     = 0;
  int held_       = -1;  // stages with results, beside the own boxes; -1: not those either
  int first_held_ = 0;
  int lead_left_  = Tuning::lead;
};

template <class T, class G, class Tuning>
__device__ __forceinline__ void multiply_column_tiles(WeightsProduct<T, G> const& args,
                                                      WeightsMemory<Tuning>& memory,
                                                      int warpgroup)
{
  static_assert(Tuning::lead >= 0 && Tuning::lead <= Tuning::stages && Tuning::stages >= 2,
                "the second warpgroup releases no stage until the first is ahead");
  auto const& p       = args.p;
  bool const gathered = p.a.index != nullptr || p.b.index != nullptr;
  ColumnProducts<T, Tuning> products(memory, warpgroup, gathered);
  GradientPlace<G> const place;
  float acc[128];

  products.begin();
  while (true) {
    auto const tile = products.next_tile();
    if (tile.expert < 0) { break; }
    int const row  = tile.m0 + warpgroup * 64;
    int const rows = __shfl_sync(~0u, tile.k1 - tile.k0, 0);  // seen to be the same in all lanes
    int const k    = max(rows, 1);                            // a step of zeros
    if (row < p.m) {
      products.multiply(k, acc);
      products.finish(acc);
      store_gradients(args, products, place, tile, row, acc);
    } else {
      int const boxes = GradientBoxes::count<G>(static_cast<int>(p.n) - tile.n0);
      products.skip(k, GradientBoxes::stages(boxes));
    }
  }
  products.end();
}

}  // namespace moe::detail
