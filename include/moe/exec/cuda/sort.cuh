#pragma once
// Cuda primitives of the plan: CUB's radix sort, which is stable, and a histogram.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <concepts>
#include <cub/device/device_radix_sort.cuh>

#include <moe/core/tensor.hpp>
#include <moe/exec/cuda.cuh>

namespace moe {
namespace detail {

// CUB's two phases in one call: ask for the scratch size, take it from `exec`, run.
template <class Algorithm>
void cub_call(Cuda const& exec, char const* name, Algorithm const& algorithm)
{
  std::size_t bytes = 0;
  cuda_try(algorithm(nullptr, bytes), name);
  Tensor<unsigned char, 1, Cuda> scratch(exec, static_cast<index_t>(bytes));
  cuda_try(algorithm(scratch.view().data_handle(), bytes), name);
}

struct HistogramTuning {
  int threads;
  int keys_per_block;
  int shared_bins;  // counted in shared memory at a time
};
inline constexpr HistogramTuning histogram_tuning{
    .threads = 256, .keys_per_block = 4096, .shared_bins = 8192};

// partial(b, i) = how many keys of block b equal first + i. Whole numbers in shared memory: their
// order of counting does not show.
template <class Key>  // a template, so that every translation unit may have it
__global__ void __launch_bounds__(histogram_tuning.threads)
    histogram_kernel(View<Key const, 1, Cuda> key, index_t first, View<Id, 2, Cuda> partial)
{
  extern __shared__ Id histogram_count[];
  index_t const bins = partial.extent(1);
  for (index_t i = threadIdx.x; i < bins; i += blockDim.x) {
    histogram_count[i] = 0;
  }
  __syncthreads();
  index_t const begin = index_t{blockIdx.x} * histogram_tuning.keys_per_block;
  index_t const end   = begin + histogram_tuning.keys_per_block < key.extent(0)
                            ? begin + histogram_tuning.keys_per_block
                            : key.extent(0);
  for (index_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    index_t const bin = index_t{key(i)} - first;
    if (bin >= 0 && bin < bins) { atomicAdd(&histogram_count[bin], 1); }
  }
  __syncthreads();
  for (index_t i = threadIdx.x; i < bins; i += blockDim.x) {
    partial(blockIdx.x, i) = histogram_count[i];
  }
}

struct SumPartialCountsRow {  // a warp per bin
  View<Id const, 2, Cuda> partial;
  index_t first;
  View<Id, 1, Cuda> count;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t bin) const
  {
    Id sum = 0;
    for (index_t b = team.lane(); b < partial.extent(0); b += team.size()) {
      sum += partial(b, bin);
    }
    sum = team.sum(sum);
    if (team.lane() == 0) { count(first + bin) = sum; }
  }
};

}  // namespace detail

// Stable ascending sort of (key, value) by the low `bits` bits of the keys; the inputs may be used
// as scratch and hold nothing afterwards.
template <std::unsigned_integral Key>
void sort_pairs(Cuda const& exec,
                int bits,
                View<Key, 1, Cuda> key,
                View<Id, 1, Cuda> value,
                View<Key, 1, Cuda> key_out,
                View<Id, 1, Cuda> value_out)
{
  if (key.extent(0) == 0) { return; }
  detail::cub_call(exec, "moe::sort_pairs", [&](void* scratch, std::size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(scratch,
                                           bytes,
                                           key.data_handle(),
                                           key_out.data_handle(),
                                           value.data_handle(),
                                           value_out.data_handle(),
                                           key.extent(0),
                                           0,
                                           bits,
                                           exec.stream());
  });
}

// count(b) = how many keys equal b, for b in [0, bins); other keys are not counted.
inline MOE_HIDDEN void histogram(Cuda const& exec,
                                 View<Id const, 1, Cuda> key,
                                 View<Id, 1, Cuda> count)
{
  auto const& tuning   = detail::histogram_tuning;
  index_t const n      = key.extent(0);
  index_t const bins   = count.extent(0);
  index_t const blocks = (n + tuning.keys_per_block - 1) / tuning.keys_per_block;
  if (blocks == 0) {
    return exec.zero(count.data_handle(), static_cast<std::size_t>(bins) * sizeof(Id));
  }
  for (index_t first = 0; first < bins; first += tuning.shared_bins) {
    index_t const here = bins - first < tuning.shared_bins ? bins - first : tuning.shared_bins;
    Tensor<Id, 2, Cuda> partial(exec, blocks, here);
    detail::launch(&detail::histogram_kernel<Id>,
                   "moe::histogram",
                   dim3(static_cast<unsigned>(blocks)),
                   dim3(tuning.threads),
                   static_cast<std::size_t>(here) * sizeof(Id),
                   exec.stream(),
                   key,
                   first,
                   partial.view());
    exec.for_each_row(here, detail::SumPartialCountsRow{partial.const_view(), first, count});
  }
}

}  // namespace moe
