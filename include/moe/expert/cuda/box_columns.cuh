#pragma once
// Columns of a box of 64 x 64 in a thread's registers, between tensor cores and activations.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/store_tile.cuh>

namespace moe::detail {

// What a thread has of two blocks of eight columns: two neighbouring columns, of two rows.
using BlockPair = std::uint32_t[2][2];

// The pre-activations of column i of two.
template <class T, int Arity>
__device__ __forceinline__ Array<float, Arity> unpack_column(BlockPair const (&z)[Arity],
                                                             int block,
                                                             int row,
                                                             int i)
{
  Array<float, Arity> column;
#pragma unroll
  for (int part = 0; part < Arity; ++part) {
    column[part] = unpack<T>(z[part][block][row], i);
  }
  return column;
}

// Two blocks from shared memory, where they lie as ResultBoxes and tensor maps have them; `address`
// by BoxPlace.
__device__ __forceinline__ void load_block_pair(std::uint32_t address, BlockPair& z)
{
  std::uint32_t four[4];
  load_matrices<false>(four, address);
  z[0][0] = four[0];
  z[0][1] = four[1];
  z[1][0] = four[2];
  z[1][1] = four[3];
}
__device__ __forceinline__ void store_block_pair(std::uint32_t address, BlockPair const& z)
{
  std::uint32_t four[4] = {z[0][0], z[0][1], z[1][0], z[1][1]};
  store_matrices(address, four);
}

}  // namespace moe::detail
