#pragma once
// Windows on Cuda: where each rank's memory is makes the models (here a world of one); one kernel
// to signal and one to wait serves all of them.
//
// Ranks may share a GPU. A wait is then one block, of a warp or the last of a kernel that has
// stored, that soon sleeps between looks, and the kernels of the others run beside it, as long as
// nothing puts them behind it:
//   CUDA_DEVICE_MAX_CONNECTIONS=32: streams share hardware queues, 8 unless said otherwise, and a
//     kernel can stand in its queue behind another rank's wait
//   CUDA_MODULE_LOADING=EAGER: a kernel's first launch may else wait until the GPU is idle
// and no cudaMalloc, cudaFree or work on the legacy default stream while a peer waits for a signal
// that comes after it: they may wait for all that runs. Both are read when CUDA is first used.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include <moe/comm/communicator.hpp>
#include <moe/comm/cuda/window_memory.cuh>
#include <moe/comm/cuda/window_rows.cuh>
#include <moe/comm/window.hpp>
#include <moe/comm/window_timeout.hpp>
#include <moe/exec/cuda.cuh>

namespace moe::detail {

// What the models on Cuda have in common. `memory` outlives it.
class CudaWindow : public WindowModel<Cuda> {
 public:
  void signal(Cuda const& exec, int channel) override
  {
    entered(exec, "moe::Window::signal");
    raise(exec, channel);
  }
  void signal_and_wait(Cuda const& exec, int channel) override
  {
    entered(exec, "moe::Window::signal");
    launch_signal(exec, signal_of(channel, /*waits*/ true));
  }
  void wait(Cuda const& exec, int channel) override
  {
    entered(exec, "moe::Window::wait");
    await(exec, channel);
  }
  std::optional<WindowSignal> signal_of_kernel(Cuda const& exec, int channel) override
  {
    entered(exec, "moe::Window::signal");
    return signal_of(channel, /*waits*/ false);
  }
  // The last block of a large kernel may have a multiprocessor for itself. As many as there are
  // ranks must not be all, where some of the ranks have still to store.
  std::optional<WindowSignal> signal_and_wait_of_kernel(Cuda const& exec, int channel) override
  {
    entered(exec, "moe::Window::signal");
    if (view.size >= exec.multiprocessors()) { return {}; }
    return signal_of(channel, /*waits*/ true);
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
    launch_signal(exec, signal_of(channel, /*waits*/ false));
  }
  MOE_HIDDEN void await(Cuda const& exec, int channel)
  {
    launch(&window_wait_kernel<window_tuning.wait_threads>,
           "moe::Window::wait",
           dim3(1),
           dim3(static_cast<unsigned>(window_tuning.wait_threads)),
           0,
           exec.stream(),
           signal_of(channel, /*waits*/ true));
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
  [[nodiscard]] WindowSignal signal_of(int channel, bool waits) const
  {
    auto const& w    = arguments_;
    auto const c     = static_cast<std::size_t>(channel);
    auto const first = c * static_cast<std::size_t>(w.size);
    auto const mine  = (first + static_cast<std::size_t>(w.rank)) * sizeof(std::uint64_t);
    WindowSignal signal{.memory = w.memory,
                        .flag   = w.flags_at + mine,
                        .count  = w.counts + c,
                        .blocks = w.blocks + c,
                        .size   = w.size};
    if (waits) {
      signal.wait = {.flags       = w.flags + first,
                     .status      = w.status,
                     .report      = w.report,
                     .nanoseconds = w.nanoseconds,
                     .channel     = channel};
    }
    return signal;
  }
  MOE_HIDDEN void launch_signal(Cuda const& exec, WindowSignal const& signal)
  {
    launch(&window_signal_kernel<window_tuning.signal_threads>,
           "moe::Window::signal",
           dim3(1),
           dim3(static_cast<unsigned>(window_tuning.signal_threads)),
           0,
           exec.stream(),
           signal);
  }

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
