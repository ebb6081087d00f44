#pragma once
// Rows that store into windows on Cuda, signal and wait in one launch; and what is done after the
// wait, where it is little.
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

// And rows of `then`, by the last block after the wait.
template <class F, class G>
__global__ void __launch_bounds__(rows_block) exchanging_rows_kernel(
    index_t rows, F const f, WindowSignal const signal, index_t rows_then, G const then)
{
  constexpr index_t of_block = rows_block / 32;
  index_t const warp = threadIdx.x / 32, step = index_t{gridDim.x} * of_block;
  for (index_t row = index_t{blockIdx.x} * of_block + warp; row < rows; row += step) {
    f(WarpTeam{}, row);
  }
  if (!last_when_stored(signal)) { return; }
  for (index_t row = warp; row < rows_then; row += of_block) {
    then(WarpTeam{}, row);
  }
}

struct WindowRowsTuning {
  int blocks;         // of a multiprocessor, as many as run at once
  index_t rows_then;  // most that the last block does
};
inline constexpr WindowRowsTuning window_rows_tuning{.blocks = 8, .rows_then = 16};

[[nodiscard]] inline dim3 signalling_blocks(Cuda const& exec, index_t rows)
{
  constexpr index_t of_block = rows_block / 32;
  index_t const most         = index_t{window_rows_tuning.blocks} * exec.multiprocessors();
  return dim3(static_cast<unsigned>(std::min((rows + of_block - 1) / of_block, most)));
}

#pragma nv_diagnostic push
#pragma nv_diag_suppress 1407  // as in exec/cuda/launch.cuh

template <class F>
MOE_HIDDEN void for_each_row_and_wait(
    Cuda const& exec, index_t rows, F const& f, Window<Cuda> const& window, int channel)
{
  if (rows > 0) {
    if (auto const signal = window.signal_and_wait_of_kernel(exec, channel)) {
      return launch(&signalling_rows_kernel<F>,
                    "moe::for_each_row",
                    signalling_blocks(exec, rows),
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
template <class F, class G>
MOE_HIDDEN void for_each_row_and_wait(Cuda const& exec,
                                      index_t rows,
                                      F const& f,
                                      Window<Cuda> const& window,
                                      int channel,
                                      index_t rows_then,
                                      G const& then)
{
  if (rows > 0 && rows_then <= window_rows_tuning.rows_then) {
    if (auto const signal = window.signal_and_wait_of_kernel(exec, channel)) {
      return launch(&exchanging_rows_kernel<F, G>,
                    "moe::for_each_row",
                    signalling_blocks(exec, rows),
                    dim3(rows_block),
                    0,
                    exec.stream(),
                    rows,
                    f,
                    *signal,
                    rows_then,
                    then);
    }
  }
  for_each_row_and_wait(exec, rows, f, window, channel);
  exec.for_each_row(rows_then, then);
}
#pragma nv_diagnostic pop

}  // namespace moe::detail
