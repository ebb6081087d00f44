#pragma once
// Rows that store into windows on Cuda: row functor, signal and wait in one launch.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <algorithm>

#include <moe/comm/cuda/window_signal.cuh>
#include <moe/exec/cuda.cuh>

namespace moe::detail {

// As rows_kernel, but for no more blocks than run at once: each takes a fence at its end.
template <class F>
__global__ void __launch_bounds__(rows_block)
    signalling_rows_kernel(index_t rows, F const f, WindowSignal const signal)
{
  constexpr index_t of_block = rows_block / 32;
  index_t const step         = index_t{gridDim.x} * of_block;
  for (index_t row = index_t{blockIdx.x} * of_block + threadIdx.x / 32; row < rows; row += step) {
    f(WarpTeam{}, row);
  }
  signal_when_stored(signal);
}

#pragma nv_diagnostic push
#pragma nv_diag_suppress 1407  // as in exec/cuda/launch.cuh

template <class F>
MOE_HIDDEN void for_each_row_and_wait(
    Cuda const& exec, index_t rows, F const& f, Window<Cuda> const& window, int channel)
{
  constexpr index_t of_block = rows_block / 32, blocks_of_multiprocessor = 8;
  if (rows > 0) {
    if (auto const signal = window.signal_and_wait_of_kernel(exec, channel)) {
      index_t const blocks = std::min((rows + of_block - 1) / of_block,
                                      blocks_of_multiprocessor * exec.multiprocessors());
      return launch(&signalling_rows_kernel<F>,
                    "moe::for_each_row",
                    dim3(static_cast<unsigned>(blocks)),
                    dim3(rows_block),
                    0,
                    exec.stream(),
                    rows,
                    f,
                    *signal);
    }
  }
  exec.for_each_row(rows, f);
  window.signal_and_wait(exec, channel);
}
#pragma nv_diagnostic pop

}  // namespace moe::detail
