#pragma once
// A tile's product by wgmma: sm_90a. The same steps as MmaPipeline's; what the tensor cores read
// is described to them instead of loaded, and they work while threads start the next copies.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/mma_pipeline.cuh>
#include <moe/exec/cuda/wgmma.cuh>

namespace moe::detail {

// Two warpgroups of 64 x 256 results; 192 KiB of shared memory.
inline constexpr TileTuning wgmma_tuning{.rows = 128, .columns = 256, .depth = 64, .stages = 4};

template <class T, Major MajorA, Major MajorB>
class WgmmaPipeline {
  using A                     = OperandCopies<T, MajorA, wgmma_tuning.rows, wgmma_tuning.depth>;
  using B                     = OperandCopies<T, MajorB, wgmma_tuning.columns, wgmma_tuning.depth>;
  static constexpr int stages = wgmma_tuning.stages;
  static constexpr int ahead  = stages - 2;  // copies; one tile waits for its last reader
  static constexpr std::uint32_t tile = A::Tile::bytes + B::Tile::bytes;

 public:
  static constexpr int shared_bytes = stages * static_cast<int>(tile);

  __device__ explicit WgmmaPipeline(unsigned char* shared)
      : memory_{shared_address(shared)},
        a_tile_{A::Tile::descriptor(memory_, warpgroup() * 64)},
        b_tile_{B::Tile::descriptor(memory_ + A::Tile::bytes, 0)}
  {
  }

  __device__ __forceinline__ void start(StoredRows<T> const& a,
                                        index_t m0,
                                        index_t m_end,
                                        StoredRows<T> const& b,
                                        index_t n0,
                                        index_t n_end,
                                        index_t k_begin,
                                        index_t k_end)
  {
    a_.start(a, m0, m_end, k_begin, k_end);
    b_.start(b, n0, n_end, k_begin, k_end);
    steps_ = static_cast<int>((k_end - k_begin + wgmma_tuning.depth - 1) / wgmma_tuning.depth);
    for (int s = 0; s < ahead; ++s) {
      copy(s);
    }
  }
  __device__ __forceinline__ void multiply()
  {
    for (int step = 0; step < steps_; ++step) {
      wait_copies<ahead - 1>();
      fence_shared_for_tensor_cores();
      __syncthreads();  // the step's tile is here, and the products of step - 2 are done
      wgmma_fence();
      multiply_tile(step);
      wgmma_commit();
      copy(step + ahead);
      wgmma_wait<1>();
    }
    wgmma_wait<0>();
    __syncthreads();  // all are done with shared memory
  }
  template <class Load, class Store>
  __device__ __forceinline__ void for_each_eight(Load const& load, Store const& store) const
  {
    int const warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int at = 0; at < 64; at += 16) {  // four times four blocks of one row
      int const half = at / 32, j0 = at % 32;
      int const row                     = warp * 16 + half * 8 + lane / 4;
      auto const column                 = [&](int j) { return (j0 + j + lane % 4) * 8; };
      decltype(load(0, 0)) const old[4] = {
          load(row, column(0)), load(row, column(4)), load(row, column(8)), load(row, column(12))};
#pragma unroll
      for (int j = 0; j < 16; j += 4) {
        float x[4][2];
#pragma unroll
        for (int p = 0; p < 4; ++p) {
          x[p][0] = acc_[(j0 + j + p) * 4 + 2 * half];
          x[p][1] = acc_[(j0 + j + p) * 4 + 2 * half + 1];
        }
        gather_eight(x);
        store(row, column(j), x, old[j / 4]);
      }
    }
  }

 private:
  __device__ __forceinline__ void copy(int step)
  {
    if (step < steps_) {
      std::uint32_t const to = memory_ + static_cast<std::uint32_t>(step % stages) * tile;
      a_.copy(to);
      b_.copy(to + A::Tile::bytes);
    }
    commit_copies();
  }
  __device__ __forceinline__ void multiply_tile(int step)
  {
    std::uint32_t const at = static_cast<std::uint32_t>(step % stages) * (tile / 16);
#pragma unroll
    for (int i = 0; i < wgmma_tuning.depth / 16; ++i) {
      wgmma_64x256x16<T, MajorA == Major::lanes, MajorB == Major::lanes>(
          acc_,
          a_tile_ + at + static_cast<std::uint32_t>(i * A::Tile::k_bytes / 16),
          b_tile_ + at + static_cast<std::uint32_t>(i * B::Tile::k_bytes / 16),
          step > 0 || i > 0);
    }
  }
  // The same in all lanes, which the compiler is made to see.
  __device__ static int warpgroup()
  {
    return __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0);
  }

  A a_;
  B b_;
  std::uint32_t memory_;
  std::uint64_t a_tile_, b_tile_;  // the first ones
  int steps_ = 0;
  float acc_[128];  // blocks of 16 x 8, which a warp shares
};

}  // namespace moe::detail
