#pragma once
// A window's flag, raised by a kernel, which may then wait for those of the peers.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <moe/comm/cuda/window_wait.cuh>
#include <moe/comm/window.hpp>

namespace moe::detail {

// After a fence, the two are a release of what came before the fence.
__device__ inline void store_relaxed(std::uint64_t* p, std::uint64_t value)
{
  asm volatile("st.relaxed.sys.u64 [%0], %1;" ::"l"(p), "l"(value) : "memory");
}
__device__ inline void fence_system()
{
  asm volatile("fence.acq_rel.sys;" ::: "memory");
}

// By the first warp, once its thread 0 has fenced: the flags of all ranks. One thread raises them,
// as a fence is of its own later stores; the lanes know where each memory is, `there` of the first
// ranks.
__device__ inline void raise_flags(WindowSignal const& signal,
                                   std::uint64_t count,
                                   std::byte* there)
{
  int const lanes = static_cast<int>(FirstWarp::lanes()), lane = static_cast<int>(threadIdx.x);
  for (int first = 0; first < signal.size; first += lanes) {
    if (first > 0) { there = first + lane < signal.size ? signal.memory[first + lane] : nullptr; }
    for (int i = 0; i < lanes && first + i < signal.size; ++i) {
      auto const memory =
          __shfl_sync(FirstWarp::mask(), reinterpret_cast<unsigned long long>(there), i);
      if (lane == 0) {
        store_relaxed(
            reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::byte*>(memory) + signal.flag),
            count);
      }
    }
  }
}

// By the first warp, after a barrier of the block: signal and wait as below. -> whether the block
// is the last
__device__ inline bool signal_by_first_warp(WindowSignal const& signal)
{
  // Read before the fences, which take as long.
  int const lane         = static_cast<int>(threadIdx.x);
  std::byte* const there = lane < signal.size ? signal.memory[lane] : nullptr;
  std::uint64_t raised   = 0;  // but in the last block
  if (lane == 0) {
    // The last block alone writes it, after it has counted this one, which comes after this.
    std::uint64_t const next = *signal.count + 1;
    bool last                = gridDim.x == 1;
    if (!last) {
      fence_system();
      last = atomicInc(signal.blocks, gridDim.x - 1) == gridDim.x - 1;  // and back to 0
    }
    if (last) {
      fence_system();
      raised = next;
    }
  }
  raised = __shfl_sync(FirstWarp::mask(), raised, 0);
  if (raised == 0) { return false; }
  raise_flags(signal, raised, there);
  if (lane == 0) { *signal.count = raised; }  // for the stream's next kernels: no flag waits for it
  if (signal.wait.flags != nullptr) { wait_for_flags(signal.wait, signal.size, raised); }
  return true;
}

// signal_when_stored(), but for what the last block does after it: true there alone, where all
// threads stay. They come after the wait, and after what every block did before its end: thread 0
// has fenced behind the last count, the lanes have acquired the flags, and then comes a barrier.
__device__ inline bool last_when_stored(WindowSignal const& signal)
{
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x < FirstWarp::lanes()) {
    bool const is_last = signal_by_first_warp(signal);
    if (threadIdx.x == 0) { last = is_last; }
  }
  __syncthreads();
  return last;
}

}  // namespace moe::detail

namespace moe {

// The end of a kernel of one-dimensional grid and blocks, reached by all threads: the last block to
// come raises the flag and, where the signal has a wait, stays for the peers'. All other blocks
// leave, and of the last all warps but the first: ranks may share a GPU.
//
// A peer that has seen the flag, by an acquire, sees what every thread of this kernel stored before
// its end, and what the stream did before the kernel. In PTX's causality order:
//   a thread's stores -> the barrier of its block -> a fence of thread 0 -> its count of the block,
//   which the last block's thread 0 reads -> its fence -> its stores of flags -> the peer's
//   acquire.
// Fence and count are a release, count and fence an acquire: all blocks have a fence before their
// count, and the last one more behind it, which is also the release of the flags. The count is of
// the GPU's scope, which is that of all blocks; fences and flags are of the system's, as the peer
// is of it. Barriers pass on what comes before them, whichever thread did it. A single block's
// count would tell nobody anything.
__device__ inline void signal_when_stored(WindowSignal const& signal)
{
  if (signal.size == 0) { return; }
  __syncthreads();  // the block has stored
  if (threadIdx.x >= detail::FirstWarp::lanes()) { return; }
  (void)detail::signal_by_first_warp(signal);
}

}  // namespace moe
