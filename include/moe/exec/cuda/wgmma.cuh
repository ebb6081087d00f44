#pragma once
// Hopper's matrix instruction: a warpgroup of four warps multiplies tiles in shared memory, while
// its threads go on (PTX ISA, asynchronous warpgroup level matrix instructions). Needs sm_90a.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <moe/core/element.hpp>

namespace moe::detail {

// Copies to shared memory that have arrived become visible to the tensor cores.
__device__ inline void fence_shared_for_tensor_cores()
{
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// Registers are ready for the warpgroup's next products.
__device__ inline void wgmma_fence()
{
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void wgmma_commit()
{
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int Left>
__device__ inline void wgmma_wait()  // until at most Left groups are at work
{
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Left) : "memory");
}

#define MOE_WGMMA_REGISTERS                                                                      \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define MOE_WGMMA(types)                                                        \
  "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"                                 \
  "wgmma.mma_async.sync.aligned.m64n256k16.f32." types " {" MOE_WGMMA_REGISTERS \
  "}, %128, %129, p, 1, 1, %131, %132;\n}"
#define MOE_FOUR(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define MOE_SIXTEEN(d, i) \
  MOE_FOUR(d, i), MOE_FOUR(d, i + 4), MOE_FOUR(d, i + 8), MOE_FOUR(d, i + 12)
#define MOE_ALL(d)                                                               \
  MOE_SIXTEEN(d, 0), MOE_SIXTEEN(d, 16), MOE_SIXTEEN(d, 32), MOE_SIXTEEN(d, 48), \
      MOE_SIXTEEN(d, 64), MOE_SIXTEEN(d, 80), MOE_SIXTEEN(d, 96), MOE_SIXTEEN(d, 112)

// d (64, 256) = (add ? d : 0) + a (64, 16) b (16, 256), by the descriptors of their tiles.
// Transposed: stored rows are k's.
template <class T, bool ATransposed, bool BTransposed>
__device__ __forceinline__ void wgmma_64x256x16(float (&d)[128],
                                                std::uint64_t a,
                                                std::uint64_t b,
                                                bool add)
{
  int const keep = add ? 1 : 0;
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm volatile(MOE_WGMMA("bf16.bf16")
                 : MOE_ALL(d)
                 : "l"(a), "l"(b), "r"(keep), "n"(int{ATransposed}), "n"(int{BTransposed}));
  } else {
    asm volatile(MOE_WGMMA("f16.f16")
                 : MOE_ALL(d)
                 : "l"(a), "l"(b), "r"(keep), "n"(int{ATransposed}), "n"(int{BTransposed}));
  }
}

#undef MOE_WGMMA_REGISTERS
#undef MOE_WGMMA
#undef MOE_FOUR
#undef MOE_SIXTEEN
#undef MOE_ALL

}  // namespace moe::detail
