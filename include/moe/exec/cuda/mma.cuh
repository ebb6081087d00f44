#pragma once
// The instructions of the portable tensor-core product: sm_80 and newer (PTX ISA, warp-level matrix
// instructions and asynchronous copies).
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <moe/core/element.hpp>
#include <moe/exec/cuda/error.cuh>

namespace moe::detail {

__device__ inline std::uint32_t shared_address(void const* p)
{
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// 16 bytes to shared memory, or zeros: then `from` is not read, but must be a valid address.
__device__ inline void copy_async_16(std::uint32_t to, void const* from, bool live)
{
  int const bytes = live ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}
__device__ inline void commit_copies()
{
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int Left>
__device__ inline void wait_copies()  // until at most Left groups are on their way
{
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
}

// Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
template <bool Transposed>
__device__ inline void load_matrices(std::uint32_t (&r)[4], std::uint32_t address)
{
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
}

// c (16, 8) += a (16, 16) b (16, 8), in fp32
template <class T>
__device__ inline void multiply_add(float (&c)[4],
                                    std::uint32_t const (&a)[4],
                                    std::uint32_t b0,
                                    std::uint32_t b1)
{
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

}  // namespace moe::detail
