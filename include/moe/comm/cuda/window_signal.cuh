#pragma once
// A window's flag, raised by a kernel, which may then wait for those of the peers.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <moe/comm/cuda/window_wait.cuh>
#include <moe/comm/window.hpp>

namespace moe::detail {

__device__ inline void store_release(std::uint64_t* p, std::uint64_t value)
{
  asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(p), "l"(value) : "memory");
}

}  // namespace moe::detail

namespace moe {

// The end of a kernel of one-dimensional grid and blocks, reached by all threads: the last block to
// come raises the flag and, where the signal has a wait, stays for the peers'. All other blocks
// leave, and of the last all warps but the first: ranks may share a GPU.
//
// A peer that has seen the flag sees what every thread of this kernel stored before, and what the
// stream did before it. In the order that makes it so:
//   a thread's store  -> the block's barrier -> its thread 0's fence -> the count of blocks
//   (release: the fence and what comes after it; a barrier passes on what it orders)
//   the last block's count -> its thread 0's fence -> the warp's barrier -> a lane's st.release.sys
//   (acquire: it has read what every other block wrote to the count)
// Both fences and the count are of scopes that include the two blocks, the flag of one that
// includes the peer; causality goes through all of them. Blocks fence for the system, not only for
// the GPU: each then waits for its own stores to peers, beside the other blocks.
// A single block needs neither count nor first fence: its barrier comes before its release.
__device__ inline void signal_when_stored(WindowSignal const& signal)
{
  if (signal.size == 0) { return; }
  __syncthreads();  // the block has stored
  unsigned const lanes = detail::FirstWarp::lanes(), all = detail::FirstWarp::mask();
  if (threadIdx.x >= lanes) { return; }
  // Read before the fences, which take as long.
  int const first         = static_cast<int>(threadIdx.x);
  std::byte* const memory = first < signal.size ? signal.memory[first] : nullptr;
  std::uint64_t raised    = 0;  // but in the last block
  if (threadIdx.x == 0) {
    // The last block alone writes it, after it has counted this one, which comes after this.
    std::uint64_t const next = *signal.count + 1;
    bool last                = gridDim.x == 1;
    if (!last) {
      asm volatile("fence.acq_rel.sys;" ::: "memory");
      last = atomicInc(signal.blocks, gridDim.x - 1) == gridDim.x - 1;  // and back to 0
      if (last) { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
    }
    if (last) { *signal.count = raised = next; }
  }
  raised = __shfl_sync(all, raised, 0);
  if (raised == 0) { return; }
  __syncwarp(all);  // the lanes come after thread 0's fence
  for (int peer = first; peer < signal.size; peer += static_cast<int>(lanes)) {
    std::byte* const there = peer == first ? memory : signal.memory[peer];
    detail::store_release(reinterpret_cast<std::uint64_t*>(there + signal.flag), raised);
  }
  if (signal.wait.flags != nullptr) { detail::wait_for_flags(signal.wait, signal.size, raised); }
}

}  // namespace moe
