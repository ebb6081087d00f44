#pragma once
// What a warp-specialised kernel needs beside cuda::ptx, which lacks these (PTX ISA: setmaxnreg,
// barrier, cp.async, stmatrix, cvt). Needs sm_90a.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>
#include <type_traits>

#include <moe/core/element.hpp>

namespace moe::detail {

// A warpgroup gives registers back, or takes what others gave; all of its threads together.
template <int Registers>
__device__ __forceinline__ void give_registers_back()
{
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
__device__ __forceinline__ void take_registers()
{
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

// The block's numbered barriers; 0 is __syncthreads(). `threads` counts those that wait and those
// that only arrive.
__device__ __forceinline__ void barrier_wait(int number, int threads)
{
  asm volatile("barrier.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
__device__ __forceinline__ void barrier_arrive(int number, int threads)
{
  asm volatile("barrier.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// This thread's arrival at an mbarrier, among those that the barrier counts, when all copies of 16
// bytes that it has asked for so far are in shared memory.
__device__ __forceinline__ void arrive_after_copies(std::uint64_t* barrier)
{
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(
                   static_cast<std::uint32_t>(__cvta_generic_to_shared(barrier)))
               : "memory");
}

// `arrivals` at the barrier that another block of the cluster, or this one, has where this block
// has `barrier`. A release of the block's scope alone: of the cluster's it would be a fence of the
// whole GPU. It tells of reads of the tensor cores, which have been waited for.
__device__ __forceinline__ void arrive_at_block(std::uint64_t* barrier,
                                                std::uint32_t block,
                                                std::uint32_t arrivals)
{
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote], %2;\n}" ::"r"(
          static_cast<std::uint32_t>(__cvta_generic_to_shared(barrier))),
      "r"(block),
      "r"(arrivals)
      : "memory");
}

// Two neighbouring results, rounded to nearest even; the first in the lower half.
template <class T>
__device__ __forceinline__ std::uint32_t pack_two(float first, float second)
{
  std::uint32_t both = 0;
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  }
  return both;
}
template <class T>
__device__ __forceinline__ float unpack(std::uint32_t both, int i)
{
  T value;
  value.bits = static_cast<std::uint16_t>(i == 0 ? both : both >> 16);
  return static_cast<float>(value);
}

// Four 8x8 matrices of 16-bit elements, each thread holding two neighbours of a row as the tensor
// cores' results have them; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void store_matrices(std::uint32_t address, std::uint32_t (&r)[4])
{
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
               "r"(r[0]),
               "r"(r[1]),
               "r"(r[2]),
               "r"(r[3])
               : "memory");
}

}  // namespace moe::detail
