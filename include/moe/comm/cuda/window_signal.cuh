#pragma once
// A window's flag, raised by a kernel.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <moe/comm/window.hpp>

namespace moe::detail {

__device__ inline void store_release(std::uint64_t* p, std::uint64_t value)
{
  asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(p), "l"(value) : "memory");
}

}  // namespace moe::detail

namespace moe {

// The end of a kernel of one-dimensional grid and blocks, reached by all threads: the last block to
// come raises the flag. What a block has stored comes before its fence, which comes before the
// count of blocks, and that before the flag, so a peer that has seen the flag sees all of it.
__device__ inline void signal_when_stored(WindowSignal const& signal)
{
  if (signal.size == 0) { return; }
  __shared__ std::uint64_t raised;  // 0 but in the last block
  __syncthreads();                  // the block has stored
  if (threadIdx.x == 0) {
    asm volatile("fence.acq_rel.sys;" ::: "memory");
    bool const last = atomicInc(signal.blocks, gridDim.x - 1) == gridDim.x - 1;  // and back to 0
    raised          = last ? *signal.count + 1 : 0;
    if (last) {
      asm volatile("fence.acq_rel.gpu;" ::: "memory");
      *signal.count = raised;
    }
  }
  __syncthreads();
  if (raised == 0) { return; }
  for (int peer = static_cast<int>(threadIdx.x); peer < signal.size;
       peer += static_cast<int>(blockDim.x)) {
    detail::store_release(reinterpret_cast<std::uint64_t*>(signal.memory[peer] + signal.flag),
                          raised);
  }
}

}  // namespace moe
