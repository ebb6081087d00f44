#pragma once
// The product of weights' gradients on sm_90a by warps of two kinds, as the rows product: one
// warpgroup copies operands through a ring of stages, two multiply them and add to the gradients,
// one while the other multiplies. Behind a tile's operands the ring has its old gradients, or room
// for its results.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <algorithm>

#include <moe/exec/cuda/hopper/copy_columns.cuh>
#include <moe/exec/cuda/hopper/grouped_rows.cuh>
#include <moe/exec/cuda/hopper/multiply_columns.cuh>

namespace moe::detail {

template <class T, class G, class Tuning>
__global__ void __launch_bounds__(hopper_threads, 1)
    hopper_weights_kernel(__grid_constant__ WeightsProduct<T, G> const args)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Tile = HopperTile;
  extern __shared__ __align__(1024) unsigned char hopper_shared[];
  auto& memory = *reinterpret_cast<WeightsMemory<Tuning>*>(hopper_shared);
  // The same in all lanes, which the compiler is made to see.
  int const warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0);
  if (threadIdx.x == 0) {
    bool const gathered = args.p.a.index != nullptr || args.p.b.index != nullptr;
    // One thread says how many bytes it has asked for; each of those that gather arrives itself.
    memory.ring.init(gathered ? 1 + Tile::copying : 1, Tile::multiplying / 32);
    memory.boxes.init(1, Tile::multiplying / 32);
  }
  __syncthreads();
  if (warpgroup == 2) {
    give_registers_back<Tile::copy_registers>();
    copy_column_tiles(args, memory, static_cast<int>(threadIdx.x) - Tile::multiplying);
  } else {
    take_registers<Tile::multiply_registers>();
    multiply_column_tiles(args, memory, warpgroup);
  }
#endif
}

// As hopper_grouped_rows, for gradients that are floats or of the operands' type. Experts without
// rows have gradients of zeros where it overwrites.
template <class Tuning, class T, class G>
MOE_HIDDEN bool hopper_grouped_weights(Cuda const& exec,
                                       GroupedProduct<T, T, G> const& p,
                                       index_t a_rows,
                                       index_t b_rows,
                                       char const* name)
{
  auto const kernel = &hopper_weights_kernel<T, G, Tuning>;
  if (!exec.hopper() || a_rows == 0 || b_rows == 0 || p.groups.rows > ragged_span ||
      !has_hopper_code(kernel)) {
    return false;
  }
  TileOrder const order((p.m + HopperTile::rows - 1) / HopperTile::rows,
                        (p.n + HopperTile::columns - 1) / HopperTile::columns);
  WeightsProduct<T, G> args{{}, {}, {}, {}, p, order};
  if (p.a.index == nullptr) { args.a_map = ragged_rows_map(p.a.base, p.m, p.m, HopperTile::depth); }
  if (p.b.index == nullptr) { args.b_map = ragged_rows_map(p.b.base, p.n, p.n, HopperTile::depth); }
  args.old_map        = matrices_map(p.c, p.groups.last, p.m, p.n, 64);
  args.dw_map         = matrices_map(p.c, p.groups.last, p.m, p.n, 16);
  index_t const tiles = index_t{order.tiles()} * p.groups.experts();
  constexpr int bytes = weights_shared_bytes<Tuning>;
  cuda_try(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), name);
  launch(kernel,
         name,
         dim3(static_cast<unsigned>(std::min(tiles, index_t{exec.multiprocessors()}))),
         dim3(HopperTile::threads),
         static_cast<std::size_t>(bytes),
         exec.stream(),
         args);
  return true;
}

}  // namespace moe::detail
