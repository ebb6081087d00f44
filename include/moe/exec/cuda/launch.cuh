#pragma once
// How row functors become kernels.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/error.cuh>
#include <moe/exec/cuda/warp_team.cuh>

namespace moe::detail {

inline constexpr int rows_block = 256;  // threads, so 8 rows at a time

template <class F>
__global__ void __launch_bounds__(rows_block) rows_kernel(index_t rows, F const f)
{
  index_t const row = index_t{blockIdx.x} * (rows_block / 32) + threadIdx.x / 32;
  if (row < rows) { f(WarpTeam{}, row); }
}

// A functor of the user's in an unnamed namespace makes these hidden anyway, of which nvcc warns.
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1407

// The result of the launch itself; hidden, because another shared library may have the same kernel
// for other architectures.
template <class... Params, class... Args>
MOE_HIDDEN void launch(void (*kernel)(Params...),
                       char const* name,
                       dim3 grid,
                       dim3 block,
                       std::size_t shared_bytes,
                       cudaStream_t stream,
                       Args const&... args)
{
  cudaLaunchConfig_t config{};
  config.gridDim          = grid;
  config.blockDim         = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream           = stream;
  cuda_try(cudaLaunchKernelEx(&config, kernel, args...), name);
}

template <class F>
MOE_HIDDEN void launch_rows(cudaStream_t stream, index_t rows, F const& f)
{
  if (rows <= 0) { return; }
  index_t const blocks = (rows + rows_block / 32 - 1) / (rows_block / 32);
  launch(&rows_kernel<F>,
         "moe::for_each_row",
         dim3(static_cast<unsigned>(blocks)),
         dim3(rows_block),
         0,
         stream,
         rows,
         f);
}
#pragma nv_diagnostic pop

}  // namespace moe::detail
