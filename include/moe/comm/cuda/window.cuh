#pragma once
// Windows on Cuda: where each rank's memory is makes the models (here a world of one); one kernel
// to signal and one to wait serves all of them.
//
// Ranks may share a GPU. A wait is then one block of a warp that sleeps between looks, and the
// kernels of the others run beside it, as long as nothing puts them behind it:
//   CUDA_DEVICE_MAX_CONNECTIONS=32: streams share hardware queues, 8 unless said otherwise, and a
//     kernel can stand in its queue behind another rank's wait
//   CUDA_MODULE_LOADING=EAGER: a kernel's first launch may else wait until the GPU is idle
// and no cudaMalloc, cudaFree or work on the legacy default stream while a peer waits for a signal
// that comes after it: they may wait for all that runs. Both are read when CUDA is first used.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include <moe/comm/communicator.hpp>
#include <moe/comm/cuda/window_signal.cuh>
#include <moe/comm/window.hpp>
#include <moe/comm/window_timeout.hpp>
#include <moe/exec/cuda.cuh>

namespace moe::detail {

// For what cannot throw: an error of ours is taken off the runtime's record, one that loses the
// context stays for what comes later to see.
inline void window_ignore(cudaError_t result) noexcept
{
  if (result != cudaSuccess && !loses_context(result)) { (void)cudaGetLastError(); }
}

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

// One rank's memory, and what its waits report.
class CudaWindowMemory {
 public:
  CudaWindowMemory()                                   = default;
  CudaWindowMemory(CudaWindowMemory const&)            = delete;
  CudaWindowMemory& operator=(CudaWindowMemory const&) = delete;
  ~CudaWindowMemory() { release(); }

  // From the driver, as peers need it. This and prepare wait for the stream.
  void make(Cuda const& exec, Check const& check, WindowLayout const& layout, int ranks)
  {
    release();
    void* p                  = nullptr;
    cudaError_t const result = cudaMalloc(&p, layout.total);
    if (result == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      check.fail<OutOfMemoryError>("bytes", layout.total, "what the GPU can give");
    }
    MOE_CUDA_TRY(result);
    data_  = static_cast<std::byte*>(p);
    owned_ = true;
    prepare(exec, data_, layout, ranks);
  }
  // Zeros, before any peer can write there.
  void prepare(Cuda const& exec, std::byte* data, WindowLayout const& layout, int ranks)
  {
    data_   = data;
    layout_ = layout;
    ranks_  = ranks;
    device_ = exec.device();
    if (report_ == nullptr) {
      std::size_t const n = sizeof(WindowReport) + static_cast<std::size_t>(ranks) * 4;
      void* p             = nullptr;
      MOE_CUDA_TRY(cudaHostAlloc(&p, n, cudaHostAllocMapped | cudaHostAllocPortable));
      std::fill_n(static_cast<std::byte*>(p), n, std::byte{0});
      report_ = static_cast<WindowReport*>(p);
    }
    // Loaded now: a kernel's first launch may wait for peers' kernels that wait for it.
    cudaFuncAttributes unused{};
    MOE_CUDA_TRY(
        cudaFuncGetAttributes(&unused, window_signal_kernel<window_tuning.signal_threads>));
    MOE_CUDA_TRY(cudaFuncGetAttributes(&unused, window_wait_kernel<window_tuning.wait_threads>));
    exec.zero(data_, layout.total);
    exec.synchronize();
  }
  // memory (P), known to the host. Waits for the stream, which reads it.
  void point(Cuda const& exec, std::vector<std::byte*> const& memory) const
  {
    exec.copy_from_host(
        data_ + layout_.pointers, memory.data(), memory.size() * sizeof(std::byte*));
    exec.synchronize();
  }
  [[nodiscard]] WindowKernelArguments arguments(int rank, std::chrono::milliseconds deadline) const
  {
    void* report = nullptr;
    MOE_CUDA_TRY(cudaHostGetDevicePointer(&report, report_, 0));
    return {.memory      = reinterpret_cast<std::byte* const*>(data_ + layout_.pointers),
            .flags       = reinterpret_cast<std::uint64_t*>(data_ + layout_.flags),
            .counts      = reinterpret_cast<std::uint64_t*>(data_ + layout_.counts),
            .blocks      = reinterpret_cast<std::uint32_t*>(data_ + layout_.blocks),
            .status      = reinterpret_cast<std::uint32_t*>(data_ + layout_.status),
            .report      = static_cast<WindowReport*>(report),
            .flags_at    = layout_.flags,
            .nanoseconds = static_cast<unsigned long long>(deadline.count()) * 1'000'000ULL,
            .rank        = rank,
            .size        = ranks_};
  }
  void release() noexcept
  {
    if (owned_) { window_ignore(cudaFree(data_)); }
    if (report_ != nullptr) { window_ignore(cudaFreeHost(report_)); }
    keep();
  }
  // Left to the process: a peer may write there for as long as it lives.
  void keep() noexcept
  {
    data_   = nullptr;
    report_ = nullptr;
    owned_  = false;
  }

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] int device() const { return device_; }
  [[nodiscard]] WindowReport* report() const { return report_; }
  [[nodiscard]] std::uint32_t* stop_word() const
  {
    return report_ != nullptr ? &report_->stop : nullptr;
  }

 private:
  std::byte* data_ = nullptr;
  bool owned_      = false;
  WindowLayout layout_;
  int ranks_ = 1, device_ = -1;
  WindowReport* report_ = nullptr;
};

// What the models on Cuda have in common. `memory` outlives it.
class CudaWindow : public WindowModel<Cuda> {
 public:
  void signal(Cuda const& exec, int channel) override
  {
    entered(exec, "moe::Window::signal");
    raise(exec, channel);
  }
  void wait(Cuda const& exec, int channel) override
  {
    entered(exec, "moe::Window::wait");
    await(exec, channel);
  }
  std::optional<WindowSignal> signal_of_kernel(Cuda const& exec, int channel) override
  {
    entered(exec, "moe::Window::signal");
    auto const& w    = arguments_;
    auto const c     = static_cast<std::size_t>(channel);
    auto const flags = c * static_cast<std::size_t>(w.size) + static_cast<std::size_t>(w.rank);
    return WindowSignal{.memory = w.memory,
                        .flag   = w.flags_at + flags * sizeof(std::uint64_t),
                        .count  = w.counts + c,
                        .blocks = w.blocks + c,
                        .size   = w.size};
  }
  void check() override
  {
    std::uint32_t const state = __atomic_load_n(&memory_.report()->state, __ATOMIC_ACQUIRE);
    if (state == WindowReport::none) { return; }
    WindowReport const& report = *memory_.report();
    auto const* const flags    = reinterpret_cast<std::uint32_t const*>(&report + 1);
    std::vector<int> missing;
    for (int r = 0; r < view.size; ++r) {
      if (flags[r] != 0) { missing.push_back(world_rank_of(r)); }
    }
    failed(window_timeout(
        std::move(missing), static_cast<int>(report.channel), report.count, deadline_));
  }

 protected:
  CudaWindow(Cuda const& exec, CudaWindowMemory& memory, std::chrono::milliseconds deadline)
      : exec_{exec}, memory_{memory}, deadline_{deadline}
  {
  }
  void place(int rank, int size, std::size_t n, int channel_count)
  {
    arguments_ = memory_.arguments(rank, deadline_);
    bytes      = n;
    channels   = channel_count;
    local      = memory_.data();
    view = {.memory = arguments_.memory, .status = arguments_.status, .rank = rank, .size = size};
  }
  MOE_HIDDEN void raise(Cuda const& exec, int channel)
  {
    launch(&window_signal_kernel<window_tuning.signal_threads>,
           "moe::Window::signal",
           dim3(1),
           dim3(static_cast<unsigned>(window_tuning.signal_threads)),
           0,
           exec.stream(),
           arguments_,
           channel);
  }
  MOE_HIDDEN void await(Cuda const& exec, int channel)
  {
    launch(&window_wait_kernel<window_tuning.wait_threads>,
           "moe::Window::wait",
           dim3(1),
           dim3(static_cast<unsigned>(window_tuning.wait_threads)),
           0,
           exec.stream(),
           arguments_,
           channel);
  }
  void entered(Cuda const& exec, char const* operation)
  {
    check();
    if (exec.device() != memory_.device()) {
      Check{operation, world_rank}.fail<StateError>(
          "the Cuda handle's device",
          exec.device(),
          joined({"that of the window's memory (", text_of(memory_.device()), ")"}));
    }
    exec_ = exec;
  }
  [[nodiscard]] bool stopped() const
  {
    return __atomic_load_n(&memory_.report()->state, __ATOMIC_ACQUIRE) == WindowReport::stopped;
  }
  // The stream that last used the window, which is kept for this.
  [[nodiscard]] Cuda const& last() const { return exec_; }
  [[nodiscard]] CudaWindowMemory& memory() const { return memory_; }
  [[nodiscard]] std::chrono::milliseconds deadline() const { return deadline_; }
  [[nodiscard]] virtual int world_rank_of(int rank) const { return rank; }
  [[noreturn]] virtual void failed(ThreadFailure failure) { failure.raise(); }

 private:
  Cuda exec_;
  CudaWindowMemory& memory_;
  std::chrono::milliseconds deadline_;
  WindowKernelArguments arguments_{};
};

inline void refuse_window_in_capture(Cuda const& exec, Check const& check)
{
  exec.enter(check.operation);
  if (exec.capturing()) {
    check.fail<StateError>(
        "the stream", "being captured into a graph", "free: a window is made before");
  }
}

// A member before CudaWindow, which refers to it.
struct CudaWindowStorage {
  CudaWindowMemory storage;
};

template <>
class SelfWindow<Cuda> final : private CudaWindowStorage, public CudaWindow {
 public:
  [[nodiscard]] static Window<Cuda> made(Cuda const& exec,
                                         std::size_t bytes,
                                         WindowOptions const& options)
  {
    Check const check{"moe::SelfCommunicator::window"};
    check_window(check, bytes, options);
    refuse_window_in_capture(exec, check);
    return Window<Cuda>(std::make_unique<SelfWindow>(exec, check, bytes, options));
  }
  SelfWindow(Cuda const& exec, Check const& check, std::size_t n, WindowOptions const& options)
      : CudaWindow{exec, storage, std::chrono::seconds(1)}
  {
    storage.make(exec, check, WindowLayout(n, options.channels, 1), 1);
    storage.point(exec, {storage.data()});
    place(0, 1, n, options.channels);
  }
  ~SelfWindow() override { window_ignore(cudaStreamSynchronize(last().stream())); }
};

}  // namespace moe::detail

namespace moe {
static_assert(HasWindow<SelfCommunicator, Cuda>);
}  // namespace moe
