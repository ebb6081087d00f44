#pragma once
// The 32 lanes of a warp as the team that shares a row.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/core/team.hpp>
#include <moe/exec/cuda/error.cuh>

namespace moe {

// Reductions are butterflies: every lane ends with the same bits, in an order that is fixed.
struct WarpTeam {
  __device__ static int lane() { return static_cast<int>(threadIdx.x & 31u); }
  MOE_HOST_DEVICE static constexpr int size() { return 32; }

  template <class S>
  __device__ static S sum(S x)
  {
    for (int step = 16; step > 0; step /= 2) {
      x += __shfl_xor_sync(~0u, x, step);
    }
    return x;
  }
  template <class S>
  __device__ static S max(S x)
  {
    for (int step = 16; step > 0; step /= 2) {
      S const other = __shfl_xor_sync(~0u, x, step);
      x             = other > x ? other : x;
    }
    return x;
  }
  template <class S>
  __device__ static Id arg_max(S x, Id i)
  {
    for (int step = 16; step > 0; step /= 2) {
      S const other  = __shfl_xor_sync(~0u, x, step);
      Id const at    = __shfl_xor_sync(~0u, i, step);
      bool const win = other > x || (other == x && at < i);
      x              = win ? other : x;
      i              = win ? at : i;
    }
    return i;
  }
  __device__ static void sync() { __syncwarp(); }
};
static_assert(Team<WarpTeam>);

}  // namespace moe
