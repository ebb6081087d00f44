#pragma once
// A ring of stages in shared memory between the warpgroup that fills them and those that read them:
// two mbarriers per stage, `full` (its bytes are here) and `empty` (all readers are done with it).
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <cuda/ptx>

#include <moe/exec/cuda/hopper/instructions.cuh>

namespace moe::detail {

// Which stage comes next, and the parity of its barriers' phase: that of the turn of the ring.
// Every thread that waits keeps one of its own and steps it once per stage.
struct RingPlace {
  int stage            = 0;
  std::uint32_t parity = 0;

  template <int Stages>
  __device__ __forceinline__ void step()
  {
    if (++stage == Stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// With several Blocks in a cluster, each fills parts of all blocks' stages, when the readers of all
// have given them back.
template <int Stages, bool TrapWhenStuck, int Blocks = 1>
struct StageRing {
  static constexpr int stages = Stages;
  std::uint64_t full[Stages], empty[Stages];  // in shared memory

  // By one thread; then the block meets. `fills` and `reads` arrivals end a phase.
  __device__ void init(int fills, int reads)
  {
    for (int s = 0; s < Stages; ++s) {
      cuda::ptx::mbarrier_init(&full[s], static_cast<std::uint32_t>(fills));
      cuda::ptx::mbarrier_init(&empty[s], static_cast<std::uint32_t>(reads * Blocks));
    }
    cuda::ptx::fence_mbarrier_init(cuda::ptx::sem_release, cuda::ptx::scope_cluster);
  }

  __device__ __forceinline__ void wait_full(RingPlace at) { wait(&full[at.stage], at.parity); }
  // At the ring's first turn no reader has ever arrived: waiting for the phase before the first
  // passes at once.
  __device__ __forceinline__ void wait_empty(RingPlace at)
  {
    wait(&empty[at.stage], at.parity ^ 1);
  }
  // The arrival of a thread that has so many bytes on their way to the stage. What it wrote there
  // before is seen by whoever finds the stage full.
  __device__ __forceinline__ void fill(int stage, int bytes)
  {
    (void)cuda::ptx::mbarrier_arrive_expect_tx(cuda::ptx::sem_release,
                                               cuda::ptx::scope_cta,
                                               cuda::ptx::space_shared,
                                               &full[stage],
                                               static_cast<std::uint32_t>(bytes));
  }
  __device__ __forceinline__ void arrive_full(int stage)
  {
    (void)cuda::ptx::mbarrier_arrive(&full[stage]);
  }
  // By one thread of each reading warp, or by one for several of them.
  __device__ __forceinline__ void release(int stage, int warps = 1)
  {
    if constexpr (Blocks == 1) {
      (void)cuda::ptx::mbarrier_arrive(cuda::ptx::sem_release,
                                       cuda::ptx::scope_cta,
                                       cuda::ptx::space_shared,
                                       &empty[stage],
                                       static_cast<std::uint32_t>(warps));
    } else {
      for (std::uint32_t block = 0; block < Blocks; ++block) {
        arrive_at_block(&empty[stage], block, static_cast<std::uint32_t>(warps));
      }
    }
  }

 private:
  static constexpr std::uint32_t stuck_turns = 2;  // of the lower half of the clock: 2 to 5 s

  __device__ __forceinline__ static bool passed(std::uint64_t* barrier, std::uint32_t parity)
  {
    return cuda::ptx::mbarrier_try_wait_parity(barrier, parity);
  }
  __device__ __forceinline__ static void wait(std::uint64_t* barrier, std::uint32_t parity)
  {
    if constexpr (TrapWhenStuck) {
      if (passed(barrier, parity)) { return; }
      std::uint32_t const start = cuda::ptx::get_sreg_clock_hi();
      while (!passed(barrier, parity)) {
        if (cuda::ptx::get_sreg_clock_hi() - start >= stuck_turns) { __trap(); }
      }
    } else {
      while (!passed(barrier, parity)) {}
    }
  }
};

}  // namespace moe::detail
