#pragma once
// The two multiplying warpgroups of a rows product. A result is one chain over ascending k, as in
// the other kernels: the same bits.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/instructions.cuh>
#include <moe/exec/cuda/hopper/rows_product.cuh>
#include <moe/exec/cuda/hopper/store_tile.cuh>
#include <moe/exec/cuda/wgmma.cuh>

namespace moe::detail {

// Multiplies stage after stage into 64 x 256 results. A stage is released when the products of the
// next one have been started, so that the tensor cores are never without work.
//
// With HoldsLast the last two stages of a tile stay: the warpgroup's own rows of a in them, which
// nobody reads any more, are places for its results. Such stages, and others that are held, are
// released when the next tile's first products are on their way.
template <class T, Major MajorB, class Tuning, bool HoldsLast>
class StageProducts {
  using ATile = SharedTile<Major::k, HopperTile::rows, HopperTile::depth>;
  using BTile = SharedTile<MajorB, HopperTile::columns, HopperTile::depth>;

 public:
  __device__ StageProducts(HopperMemory<Tuning>& memory, int warpgroup, bool gathered)
      : memory_{memory},
        a_tile_{ATile::descriptor(shared_address(memory.a(0)), warpgroup * 64)},
        b_tile_{BTile::descriptor(shared_address(memory.b(0)), 0)},
        warpgroup_{warpgroup},
        gathered_{gathered}
  {
  }
  // The second warpgroup waits here until the first is ahead.
  __device__ __forceinline__ void begin()
  {
    if (Tuning::lead > 0 && warpgroup_ == 1) {
      barrier_wait(lead_barrier, HopperTile::multiplying);
    }
  }
  // The first warpgroup, when it is done, if it never came that far.
  __device__ __forceinline__ void end()
  {
    if (Tuning::lead > 0 && warpgroup_ == 0 && lead_left_ > 0) {
      barrier_arrive(lead_barrier, HopperTile::multiplying);
    }
  }

  __device__ __forceinline__ GroupedTile next_tile()  // when its first step is here
  {
    memory_.ring.wait_full(at_);
    auto const tile = memory_.tile[at_.stage];
    __syncwarp();  // all lanes have read it before one of them gives the stage back
    return tile;
  }

  // Starts the products of all steps; finish() waits for the last ones.
  __device__ __forceinline__ void multiply(int steps, float (&acc)[128])
  {
    for (int step = 0; step < steps; ++step) {
      memory_.ring.wait_full(at_);
      // Copies of 16 bytes are the threads' own writes, of which the tensor cores must be told.
      if (gathered_) { fence_shared_for_tensor_cores(); }
      wgmma_fence();
      std::uint32_t const at =
          static_cast<std::uint32_t>(at_.stage) * (HopperTile::stage_bytes / 16);
#pragma unroll
      for (int i = 0; i < HopperTile::depth / 16; ++i) {
        wgmma_64x256x16<T, false, MajorB == Major::lanes>(
            acc,
            a_tile_ + at + static_cast<std::uint32_t>(i * ATile::k_bytes / 16),
            b_tile_ + at + static_cast<std::uint32_t>(i * BTile::k_bytes / 16),
            step > 0 || i > 0);
      }
      wgmma_commit();
      if (step == 0) { give_back_held(); }
      wgmma_wait<1>();
      if (HoldsLast && step + 1 == steps) {
        held_[0] = before_;
      } else if (step > 0) {
        release(before_);
      }
      before_ = at_.stage;
      at_.template step<Tuning::stages>();
      step_ahead();
    }
  }
  __device__ __forceinline__ void finish(float (&acc)[128])
  {
    wgmma_wait<0>();
#pragma unroll
    for (float& x : acc) {
      asm volatile("" : "+f"(x)::"memory");  // not read before here
    }
    if constexpr (HoldsLast) {
      held_[1] = before_;
    } else {
      release(before_);
    }
  }
  // The next stage, when it is here, for store_rows(): one thread gives it back for the warpgroup.
  __device__ __forceinline__ int take_stage()
  {
    memory_.ring.wait_full(at_);
    int const stage = at_.stage;
    at_.template step<Tuning::stages>();
    step_ahead();
    return stage;
  }
  __device__ __forceinline__ void give_back(int stage) { memory_.ring.release(stage, 4); }
  // Stages, or -1, from which the thread that calls give_back() is storing.
  __device__ __forceinline__ void hold(int one, int other)
  {
    held_[0] = one;
    held_[1] = other;
  }
  // A place for 64 x 64 results, one of four.
  __device__ __forceinline__ unsigned char* place(int i)
  {
    static_assert(HopperTile::box_bytes == HopperTile::a_bytes / 2);
    return i < HopperTile::boxes
               ? memory_.box[warpgroup_][i]
               : memory_.a(held_[i - HopperTile::boxes]) + warpgroup_ * HopperTile::box_bytes;
  }
  // One thread stores for the warpgroup, which meets before it does.
  [[nodiscard]] __device__ static bool stores() { return threadIdx.x % 128 == 0; }
  __device__ __forceinline__ void meet() const { barrier_wait(1 + warpgroup_, 128); }
  // Of a stage in parts for the warpgroups.
  __device__ __forceinline__ unsigned char* part(int stage, int bytes)
  {
    return memory_.stage[stage] + warpgroup_ * bytes;
  }
  // The steps of a tile of which this warpgroup has no rows.
  __device__ __forceinline__ void skip(int steps)
  {
    give_back_held();
    for (int step = 0; step < steps; ++step) {
      memory_.ring.wait_full(at_);
      release(at_.stage);
      at_.template step<Tuning::stages>();
      step_ahead();
    }
  }

 private:
  static constexpr int lead_barrier = 3;
  static_assert(Tuning::stages >= 3, "a stage for the next tile's first step, beside those held");

  __device__ __forceinline__ void give_back_held()
  {
    if (stores()) {
      cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>{});
      for (int const stage : held_) {
        if (stage >= 0) { give_back(stage); }
      }
    }
    hold(-1, -1);
  }
  __device__ __forceinline__ void release(int stage)
  {
    if (threadIdx.x % 32 == 0) { memory_.ring.release(stage); }
  }
  __device__ __forceinline__ void step_ahead()
  {
    if constexpr (Tuning::lead > 0) {
      if (warpgroup_ == 0 && lead_left_ > 0) {
        --lead_left_;
        if (lead_left_ == 0) { barrier_arrive(lead_barrier, HopperTile::multiplying); }
      }
    }
  }

  HopperMemory<Tuning>& memory_;
  std::uint64_t a_tile_, b_tile_;  // of the first stage
  int warpgroup_;
  bool gathered_;
  RingPlace at_;
  int before_    = 0;
  int held_[2]   = {-1, -1};
  int lead_left_ = Tuning::lead;
};

template <Major MajorB, class Product, class Tuning>
__device__ __forceinline__ void multiply_row_tiles(Product const& args,
                                                   HopperMemory<Tuning>& memory,
                                                   int warpgroup)
{
  static_assert(Tuning::lead >= 0 && Tuning::lead <= Tuning::stages,
                "the second warpgroup releases no stage until the first is ahead");
  constexpr int depth = HopperTile::depth;
  int const steps     = static_cast<int>((args.p.k + depth - 1) / depth);
  StageProducts<typename Product::element, MajorB, Tuning, !Product::store_reads> products(
      memory, warpgroup, args.p.a.index != nullptr);
  float acc[128];

  products.begin();
  while (true) {
    auto const tile = products.next_tile();
    if (tile.expert < 0) { break; }
    int const row = tile.m0 + warpgroup * 64;
    if (row < tile.m1) {
      products.multiply(steps, acc);
      products.finish(acc);
      store_rows(args, products, tile, row, acc);
    } else {
      int reads = 0;
      if constexpr (Product::store_reads) {
        int const columns = static_cast<int>(args.p.n) - tile.n0;
        reads             = (min(columns, HopperTile::columns) + 63) / 64;
      }
      products.skip(steps + reads);
    }
  }
  products.end();
  if (products.stores()) {  // stays until all is written
    cuda::ptx::cp_async_bulk_wait_group(cuda::ptx::n32_t<0>{});
  }
}

}  // namespace moe::detail
