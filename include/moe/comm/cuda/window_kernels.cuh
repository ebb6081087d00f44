#pragma once
// The kernels that signal and wait, which serve all models of windows on Cuda, and the flags that
// they work on.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstddef>
#include <cstdint>

#include <moe/comm/cuda/window_signal.cuh>
#include <moe/comm/cuda/window_wait.cuh>

namespace moe::detail {

// Behind the bytes of each rank's memory, at the same places on all ranks.
struct WindowLayout {
  WindowLayout() = default;
  WindowLayout(std::size_t bytes, int channels, int ranks)
  {
    auto const C = static_cast<std::size_t>(channels), P = static_cast<std::size_t>(ranks);
    flags    = (bytes + 255) / 256 * 256;
    counts   = flags + C * P * sizeof(std::uint64_t);
    blocks   = counts + C * sizeof(std::uint64_t);
    pointers = blocks + (C + 1) / 2 * 2 * sizeof(std::uint32_t);
    status   = pointers + P * sizeof(std::byte*);
    total    = status + sizeof(std::uint64_t);
  }
  std::size_t flags    = 0;  // (channels, P): how often each rank has signalled, written by it
  std::size_t counts   = 0;  // (channels): how often this rank has; this and below are its own
  std::size_t blocks   = 0;  // (channels): of a kernel that signals itself, those that have stored
  std::size_t pointers = 0;  // (P)
  std::size_t status   = 0;
  std::size_t total    = 0;
};

// Of a window: what kernels get of one channel is made of it.
struct WindowKernelArguments {
  std::byte* const* memory;  // (P)
  std::uint64_t* flags;      // (channels, P), here
  std::uint64_t* counts;     // (channels)
  std::uint32_t* blocks;     // (channels)
  std::uint32_t* status;
  WindowReport* report;
  std::size_t flags_at;
  unsigned long long nanoseconds;  // of the deadline
  int rank, size;
};

struct WindowTuning {
  int signal_threads, wait_threads;
};
inline constexpr WindowTuning window_tuning{.signal_threads = 32, .wait_threads = 32};

// A kernel that has stored nothing. What the stream's earlier kernels stored comes before it, and
// so before its flags. Templates, as all kernels of headers, so that each program has them once.
template <int threads>
__global__ void __launch_bounds__(threads) window_signal_kernel(WindowSignal const signal)
{
  signal_when_stored(signal);
}

// As many signals as this rank has given by now, of all.
template <int threads>
__global__ void __launch_bounds__(threads) window_wait_kernel(WindowSignal const signal)
{
  wait_for_flags(signal.wait, signal.size, *signal.count);
}

}  // namespace moe::detail
