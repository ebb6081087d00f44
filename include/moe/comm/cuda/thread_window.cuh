#pragma once
// Windows of ranks that are threads with a GPU: cudaMalloc's memory, which all see by the same
// pointers, with access of one device to another's where they differ.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <moe/comm/cuda/thread_stages.cuh>
#include <moe/comm/cuda/window.cuh>
#include <moe/comm/thread_communicator.hpp>
#include <moe/exec/cuda/peer_access.cuh>

namespace moe::detail {

// The parts of all ranks of one window. Returning memory waits for the device, where a peer may be
// waiting for what this rank would do next: it is kept until the ranks make the next window, when
// each has enqueued all that its peers can be waiting for, or until the group goes.
class CudaWindowSet {
 public:
  static constexpr bool kept = true;
  struct Part {
    CudaWindowMemory memory;
    ThreadSignals signals;  // where one kernel runs at a time
    CudaEvent done;         // after the rank's last use
  };

  explicit CudaWindowSet(int ranks) : parts_(static_cast<std::size_t>(ranks)) {}
  CudaWindowSet(CudaWindowSet const&)            = delete;
  CudaWindowSet& operator=(CudaWindowSet const&) = delete;
  ~CudaWindowSet()
  {
    for (Part const& part : parts_) {  // a rank of another device may still write to any of them
      if (part.done.get() != nullptr) { cuda_ignore(cudaEventSynchronize(part.done.get())); }
    }
    if (ThreadState* const state = state_.load()) {
      for (Part const& part : parts_) {
        state->forget(part.memory.stop_word());
      }
    }
  }

  [[nodiscard]] Part const& of(int rank) const { return parts_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] Part& mine(int rank) { return parts_[static_cast<std::size_t>(rank)]; }
  // Ends the waits of all ranks.
  void stop() noexcept
  {
    for (Part const& part : parts_) {
      __atomic_store_n(part.memory.stop_word(), 1U, __ATOMIC_RELEASE);
    }
  }
  // By each rank, with its part made; the same state.
  void watch(ThreadState& state, int rank)
  {
    state.watch(mine(rank).memory.stop_word());
    state_ = &state;
  }

 private:
  std::vector<Part> parts_;                   // (P)
  std::atomic<ThreadState*> state_{nullptr};  // of the group, whose windows end before it
};

template <>
class ThreadWindow<Cuda> final : public CudaWindow {
 public:
  [[nodiscard]] static Window<Cuda> made(Cuda const& exec,
                                         std::shared_ptr<ThreadGroup> const& group,
                                         int rank,
                                         std::size_t bytes,
                                         WindowOptions const& options)
  {
    Check const check{name_of(Collective::window), group->world_rank(rank)};
    check_window(check, bytes, options);
    refuse_window_in_capture(exec, check);
    char const* const space = options.one_kernel_at_a_time ? "Cuda, one kernel at a time" : "Cuda";
    ThreadGroup::Call call{*group, rank, window_fingerprint(space, bytes, options)};
    auto& windows = group->stages<ThreadWindows<CudaWindowSet>>();
    windows.collect();
    auto const set = windows.next(rank);
    auto& mine     = set->mine(rank);
    group->state().forget(mine.memory.stop_word());  // of a call that failed after this
    int const P = group->size();
    mine.memory.make(exec, check, WindowLayout(bytes, options.channels, P), P);
    mine.done.make();
    mine.signals.make(options.channels);
    set->watch(group->state(), rank);
    call.meet();
    windows.made(rank);

    std::vector<std::byte*> memory;
    for (int r = 0; r < P; ++r) {
      memory.push_back(set->of(r).memory.data());
      enable_access(exec, check, set->of(r).memory.device(), group->world_rank(r));
    }
    mine.memory.point(exec, memory);
    return Window<Cuda>(std::make_unique<ThreadWindow>(exec, group, rank, set, bytes, options));
  }

  ThreadWindow(Cuda const& exec,
               std::shared_ptr<ThreadGroup> group,
               int rank,
               std::shared_ptr<CudaWindowSet> set,
               std::size_t n,
               WindowOptions const& options)
      : CudaWindow{exec,
                   set->mine(rank).memory,
                   options.deadline.count() > 0 ? options.deadline : group->state().deadline},
        group_{std::move(group)},
        set_{std::move(set)},
        one_at_a_time_{options.one_kernel_at_a_time}
  {
    world_rank = group_->world_rank(rank);
    place(rank, group_->size(), n, options.channels);
  }
  // No host waits: whoever returns the memory waits for this event. A rank that leaves by an
  // exception ends its peers' waits here, before it lets go of what may wait for the device.
  ~ThreadWindow() override
  {
    if (std::uncaught_exceptions() > exceptions_) { set_->stop(); }
    cuda_ignore(cudaEventRecord(set_->mine(view.rank).done.get(), last().stream()));
  }

  void signal(Cuda const& exec, int channel) override
  {
    entered(exec, "moe::Window::signal");
    raise(exec, channel);
    if (one_at_a_time_) {
      exec.synchronize();  // the flags are raised before the others are told
      set_->mine(view.rank).signals.raise(channel);
    }
  }
  std::optional<WindowSignal> signal_of_kernel(Cuda const& exec, int channel) override
  {
    if (one_at_a_time_) { return {}; }
    return CudaWindow::signal_of_kernel(exec, channel);
  }
  void signal_and_wait(Cuda const& exec, int channel) override
  {
    if (!one_at_a_time_) { return CudaWindow::signal_and_wait(exec, channel); }
    signal(exec, channel);
    wait(exec, channel);
  }
  std::optional<WindowSignal> signal_and_wait_of_kernel(Cuda const& exec, int channel) override
  {
    if (one_at_a_time_) { return {}; }
    return CudaWindow::signal_and_wait_of_kernel(exec, channel);
  }
  void wait(Cuda const& exec, int channel) override
  {
    entered(exec, "moe::Window::wait");
    if (one_at_a_time_) { wait_for_threads(*group_, view.rank, *set_, channel, deadline()); }
    await(exec, channel);
  }
  // The world's first failure, also where it ended this rank's wait.
  void check() override
  {
    auto& state = group_->state();
    {
      std::unique_lock lock(state.mutex);
      state.check();
      if (stopped()) {  // by a peer that is leaving: why will be told when it has left
        state.wake(world_rank).wait_for(lock, deadline(), [&] { return state.failed(); });
        state.check();
        state.fail(world_rank,
                   {"moe::Window::wait", "a rank", "left by an exception", "running", 0, 0, {}});
        state.check();
      }
    }
    CudaWindow::check();
  }

 private:
  [[nodiscard]] int world_rank_of(int rank) const override { return group_->world_rank(rank); }
  [[noreturn]] void failed(ThreadFailure failure) override
  {
    std::lock_guard const lock(group_->state().mutex);
    group_->state().fail(world_rank, std::move(failure));
    group_->state().check();
    std::terminate();  // check() throws after fail()
  }

  static void enable_access(Cuda const& exec, Check const& check, int device, int peer)
  {
    if (!enable_peer_access(device)) {
      check.fail<StateError>(
          joined({"access to the memory of rank ", text_of(peer)}),
          joined({"none of device ", text_of(exec.device()), " to device ", text_of(device)}),
          "there (NVLink, or PCIe without isolation)");
    }
  }

  std::shared_ptr<ThreadGroup> group_;
  std::shared_ptr<CudaWindowSet> set_;
  bool one_at_a_time_;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace moe::detail

namespace moe {
static_assert(HasWindow<ThreadCommunicator, Cuda>);
}  // namespace moe
