#pragma once
// The rows product on sm_90a by warps of two kinds: one warpgroup copies operands through a ring of
// stages in shared memory, two multiply them; a tile's results are stored while the next tile's
// operands arrive.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <algorithm>

#include <moe/exec/cuda/hopper/copy_rows.cuh>
#include <moe/exec/cuda/hopper/multiply_rows.cuh>
#include <moe/exec/gemm.hpp>

namespace moe::detail {

// Code of other architectures is empty, and says so by its bound on threads, which a launch that
// went there would break.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr int hopper_threads = HopperTile::threads;
#else
inline constexpr int hopper_threads = 32;
#endif

template <class Tuning>
__device__ __forceinline__ void meet_cluster()
{
  if constexpr (Tuning::cluster == 1) {
    __syncthreads();
  } else {
    cuda::ptx::barrier_cluster_arrive();
    cuda::ptx::barrier_cluster_wait();
  }
}

// The whole of a block's work, on sm_90a.
template <Major MajorB, class Tuning, class Product>
__device__ __forceinline__ void multiply_rows(Product const& args)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Tile = HopperTile;
  extern __shared__ __align__(1024) unsigned char hopper_shared[];
  auto& memory = *reinterpret_cast<HopperMemory<Tuning>*>(hopper_shared);
  // The same in all lanes, which the compiler is made to see.
  int const warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0);
  if (threadIdx.x == 0) {
    // One thread says how many bytes it has asked for; each of those that gather arrives itself.
    memory.ring.init(args.p.a.index != nullptr ? 1 + Tile::copying : 1, Tile::multiplying / 32);
  }
  meet_cluster<Tuning>();
  if (warpgroup == 2) {
    give_registers_back<Tile::copy_registers>();
    copy_row_tiles<MajorB>(args, memory, static_cast<int>(threadIdx.x) - Tile::multiplying);
  } else {
    take_registers<Tile::multiply_registers>();
    multiply_row_tiles<MajorB>(args, memory, warpgroup);
  }
  // A block stays while another may write to its memory and its barriers.
  if constexpr (Tuning::cluster > 1) { meet_cluster<Tuning>(); }
#endif
}

template <class Product, Major MajorB, class Tuning>
__global__ void __launch_bounds__(hopper_threads, 1)
    hopper_rows_kernel(__grid_constant__ Product const args)
{
  multiply_rows<MajorB, Tuning>(args);
}

// As in launch.cuh: an activation of the user's may be in an unnamed namespace.
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1407

// Whether this program has the kernel's code for the current device's architecture.
template <class Kernel>
MOE_HIDDEN bool has_hopper_code(Kernel kernel)
{
  cudaFuncAttributes attributes{};
  MOE_CUDA_TRY(cudaFuncGetAttributes(&attributes, kernel));
  return attributes.maxThreadsPerBlock >= HopperTile::threads;
}

// Whether a kernel of this kind takes the product: not on another architecture, not with more rows
// than a tensor map's coordinates reach, and not of one step, as a tile holds two stages.
template <class Kernel, class T>
MOE_HIDDEN bool hopper_takes(Cuda const& exec,
                             Kernel kernel,
                             GroupedProduct<T, T, T> const& p,
                             index_t base_rows)
{
  return exec.hopper() && base_rows > 0 && p.k > HopperTile::depth &&
         p.groups.rows <= ragged_span && has_hopper_code(kernel);
}

template <class Tuning, class Product>
MOE_HIDDEN void launch_hopper_rows(Cuda const& exec,
                                   void (*kernel)(Product),
                                   Product const& args,
                                   char const* name)
{
  constexpr int bytes = hopper_shared_bytes<Tuning>;
  cuda_try(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), name);
  static_assert(Tuning::cluster == 1 || Tuning::cluster == 2);
  constexpr int cluster  = Tuning::cluster;
  index_t const clusters = std::min(
      index_t{args.order.tiles()}, std::max(index_t{exec.multiprocessors()} / cluster, index_t{1}));
  cudaLaunchAttribute of_clusters{};
  of_clusters.id               = cudaLaunchAttributeClusterDimension;
  of_clusters.val.clusterDim.x = cluster;
  of_clusters.val.clusterDim.y = of_clusters.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim          = dim3(static_cast<unsigned>(clusters * cluster));
  config.blockDim         = dim3(HopperTile::threads);
  config.dynamicSmemBytes = static_cast<std::size_t>(bytes);
  config.stream           = exec.stream();
  config.attrs            = &of_clusters;
  config.numAttrs         = cluster > 1 ? 1 : 0;
  cuda_try(cudaLaunchKernelEx(&config, kernel, args), name);
}
// A cluster's row tiles, and their columns.
template <class Product, class Tuning>
TileOrder hopper_order(RowGroups<Cuda> const& groups, index_t n)
{
  index_t const columns = HopperTile::columns / Product::parts;
  return {row_tiles_bound(groups, HopperTile::rows * Tuning::cluster), (n + columns - 1) / columns};
}

#pragma nv_diagnostic pop

// Starts the product and says so, or leaves it to another kernel: on another architecture, and for
// extents that this one does not take. p's strides and bases are known to be multiples of 16 bytes.
template <class Tuning, class T>
MOE_HIDDEN bool hopper_grouped_rows(Cuda const& exec,
                                    GroupedProduct<T, T, T> const& p,
                                    index_t base_rows,
                                    Transpose tw,
                                    index_t experts,
                                    char const* name)
{
  if constexpr (may_choose_pairs<Tuning>) {
    if (choose_pairs<Tuning>(p.groups)) {
      return hopper_grouped_rows<InPairs<Tuning>>(exec, p, base_rows, tw, experts, name);
    }
  }
  bool const k_major = tw == Transpose::yes;
  auto const kernel  = k_major ? &hopper_rows_kernel<RowsProduct<T>, Major::k, Tuning>
                               : &hopper_rows_kernel<RowsProduct<T>, Major::lanes, Tuning>;
  if (!hopper_takes(exec, kernel, p, base_rows)) { return false; }
  RowsProduct<T> args{{}, {}, {}, p, hopper_order<RowsProduct<T>, Tuning>(p.groups, p.n)};
  if (p.a.index == nullptr) { args.a_map = rows_map(p.a.base, base_rows, p.k, p.k, 64); }
  args.w_map = k_major
                   ? matrices_map(p.b.base, experts, p.n, p.k, w_box_rows<RowsProduct<T>, Tuning>)
                   : matrices_map(p.b.base, experts, p.k, p.n, HopperTile::depth);
  args.c_map = ragged_rows_map(p.c, p.n, p.n, 64);
  launch_hopper_rows<Tuning>(exec, kernel, args, name);
  return true;
}

}  // namespace moe::detail
