#pragma once
// What CUB's sort of pairs takes as scratch on the current device, and whether that runs the
// kernels of sm_90a, for a memory plan that is exact:
//   plan_memory<T>(layer, sizes, tokens,
//                  {.space = {.like       = MeteredSpace::cuda,
//                             .sort_bytes = &cub_sort_bytes,
//                             .hopper     = runs_hopper_kernels(exec)}})
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/grouped_rows.cuh>
#include <moe/exec/cuda/sort.cuh>
#include <moe/exec/cuda/sum_rows.cuh>
#include <moe/exec/meter_primitives.hpp>
#include <moe/plan/cuda/fill_plan.cuh>

namespace moe {
namespace detail {

static_assert(histogram_tuning.keys_per_block == metered_histogram_keys);
static_assert(histogram_tuning.shared_bins == metered_histogram_bins);
static_assert(column_sum_tuning.rows == metered_sum_rows);
static_assert(fill_plan_part == metered_plan_part);
static_assert(fill_plan_tuning.takers == metered_plan_takers);

template <std::unsigned_integral Key>
std::size_t cub_sort_bytes_of(int bits, index_t n)
{
  std::size_t bytes = 0;
  Key* const key    = nullptr;
  Id* const value   = nullptr;
  cuda_try(cub::DeviceRadixSort::SortPairs(nullptr, bytes, key, key, value, value, n, 0, bits),
           "moe::cub_sort_bytes");
  return bytes;
}

// Has code where the products' kernels have.
template <class T>  // a template, so that every translation unit may have it
__global__ void __launch_bounds__(hopper_threads, 1) hopper_probe_kernel(T)
{
}

}  // namespace detail

// Of this program: it may have been built without that code.
[[nodiscard]] inline MOE_HIDDEN bool runs_hopper_kernels(Cuda const& exec)
{
  return exec.hopper() && detail::has_hopper_code(&detail::hopper_probe_kernel<int>);
}

inline MOE_HIDDEN std::size_t cub_sort_bytes(int bits, index_t n, std::size_t key_bytes)
{
  return key_bytes == sizeof(std::uint64_t) ? detail::cub_sort_bytes_of<std::uint64_t>(bits, n)
                                            : detail::cub_sort_bytes_of<std::uint32_t>(bits, n);
}

}  // namespace moe
