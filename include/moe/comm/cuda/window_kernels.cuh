#pragma once
// The kernels that signal and wait, which serve all models of windows on Cuda, and the flags that
// they work on.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstddef>
#include <cstdint>

#include <moe/comm/cuda/window_signal.cuh>

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

// In pinned memory of the host, which the first wait that fails writes; P words follow, 1 for each
// rank that is missing.
struct WindowReport {
  enum State : std::uint32_t { none, timed_out, stopped };
  std::uint32_t state;  // written last
  std::uint32_t stop;   // by the host: waits are to end
  std::uint64_t channel, count;
};

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
  unsigned shortest_sleep, longest_sleep;  // nanoseconds between two looks at a flag
  int looks_per_stop;                      // at flags, for one at the host's memory
};
inline constexpr WindowTuning window_tuning{.signal_threads = 32,
                                            .wait_threads   = 32,
                                            .shortest_sleep = 32,
                                            .longest_sleep  = 256,
                                            .looks_per_stop = 32};

__device__ inline std::uint64_t load_acquire(std::uint64_t const* p)
{
  std::uint64_t value;
  asm volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(value) : "l"(p) : "memory");
  return value;
}
__device__ inline unsigned long long window_time()
{
  unsigned long long nanoseconds;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(nanoseconds));
  return nanoseconds;
}

// The stores of the stream's earlier kernels come before the fence, the flags after it. A template,
// as all kernels of headers, so that each program has it once.
template <int threads>
__global__ void __launch_bounds__(threads)
    window_signal_kernel(WindowKernelArguments const w, int const channel)
{
  std::uint64_t const count = w.counts[channel] + 1;
  __syncthreads();  // all have read it
  __threadfence_system();
  std::size_t const mine = static_cast<std::size_t>(channel) * static_cast<std::size_t>(w.size) +
                           static_cast<std::size_t>(w.rank);
  for (int peer = static_cast<int>(threadIdx.x); peer < w.size; peer += threads) {
    store_release(reinterpret_cast<std::uint64_t*>(w.memory[peer] + w.flags_at) + mine, count);
  }
  if (threadIdx.x == 0) { w.counts[channel] = count; }
}

template <int threads>
__global__ void __launch_bounds__(threads)
    window_wait_kernel(WindowKernelArguments const w, int const channel)
{
  unsigned long long const start = window_time();
  std::uint64_t const count      = w.counts[channel];
  bool const failed_before       = *static_cast<std::uint32_t volatile*>(w.status) != 0;
  bool missing = false, stopped = false;
  __syncthreads();  // all have read the status
  if (failed_before) { return; }
  std::size_t const first = static_cast<std::size_t>(channel) * static_cast<std::size_t>(w.size);
  for (int peer = static_cast<int>(threadIdx.x); peer < w.size; peer += threads) {
    unsigned sleep = window_tuning.shortest_sleep;
    for (int looks = 1; load_acquire(w.flags + first + peer) < count; ++looks) {
      if (looks % window_tuning.looks_per_stop == 0) {
        stopped = stopped || *static_cast<std::uint32_t volatile*>(&w.report->stop) != 0;
      }
      if (stopped || window_time() - start > w.nanoseconds) {
        missing                                     = true;
        *static_cast<std::uint32_t volatile*>(reinterpret_cast<std::uint32_t*>(w.report + 1) +
                                              peer) = 1;
        break;
      }
      __nanosleep(sleep);
      sleep = min(2 * sleep, window_tuning.longest_sleep);
    }
  }
  __threadfence_system();
  bool const any_missing = __syncthreads_or(missing ? 1 : 0) != 0;
  bool const any_stopped = __syncthreads_or(stopped ? 1 : 0) != 0;
  if (!any_missing || threadIdx.x != 0) { return; }
  auto volatile* const report = w.report;
  report->channel             = static_cast<std::uint64_t>(channel);
  report->count               = count;
  __threadfence_system();
  report->state = any_stopped ? WindowReport::stopped : WindowReport::timed_out;
  *static_cast<std::uint32_t volatile*>(w.status) = 1;
}

}  // namespace moe::detail
