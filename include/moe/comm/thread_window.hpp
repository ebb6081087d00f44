#pragma once
// Windows of ranks that are threads. Each rank makes its part of a set that all share, so memory
// outlives every rank that can store into it, whichever goes first and why.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <moe/comm/thread_group.hpp>
#include <moe/comm/window.hpp>
#include <moe/comm/window_timeout.hpp>
#include <moe/exec/host.hpp>

namespace moe::detail {

// How often one rank has signalled on each channel, between threads.
class ThreadSignals {
 public:
  void make(int channels) { counts_ = std::vector<Count>(static_cast<std::size_t>(channels)); }
  void raise(int channel) { at(channel).fetch_add(1, std::memory_order_release); }
  [[nodiscard]] std::uint64_t count(int channel) const
  {
    return counts_[static_cast<std::size_t>(channel)].value.load(std::memory_order_acquire);
  }

 private:
  struct alignas(64) Count {
    std::atomic<std::uint64_t> value{0};
  };
  [[nodiscard]] std::atomic<std::uint64_t>& at(int channel)
  {
    return counts_[static_cast<std::size_t>(channel)].value;
  }
  std::vector<Count> counts_;  // (channels)
};

// Until every rank of the set has signalled on `channel` as often as `rank`. Ends with the world's
// failure, which it is itself at the deadline.
template <class SetT>
void wait_for_threads(ThreadGroup const& group,
                      int rank,
                      SetT const& set,
                      int channel,
                      std::chrono::milliseconds deadline)
{
  std::uint64_t const count = set.of(rank).signals.count(channel);
  auto const start          = std::chrono::steady_clock::now();
  for (int peer = 0; peer < group.size(); ++peer) {
    for (int looks = 0; set.of(peer).signals.count(channel) < count; ++looks) {
      if (looks < 64) {  // most peers are nearly there
        std::this_thread::yield();
        continue;
      }
      auto& state = group.state();
      std::unique_lock lock(state.mutex);
      state.check();
      if (std::chrono::steady_clock::now() - start >= deadline) {
        std::vector<int> missing;
        for (int r = 0; r < group.size(); ++r) {
          if (set.of(r).signals.count(channel) < count) { missing.push_back(group.world_rank(r)); }
        }
        if (missing.empty()) { break; }
        state.fail(group.world_rank(rank),
                   window_timeout(std::move(missing), channel, count, deadline));
        state.check();
      }
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
}

// The sets of a ThreadGroup that are being made, and those that are kept. SetT(ranks) is one window
// of all ranks; SetT::kept: one that all ranks have let go stays until the next is made or the
// group goes.
template <class SetT>
class ThreadWindows {
 public:
  static constexpr char tag = 0;

  explicit ThreadWindows(int ranks) : made_(static_cast<std::size_t>(ranks)) {}

  // That of the rank's next window, made by the first that asks.
  [[nodiscard]] std::shared_ptr<SetT> next(int rank)
  {
    std::lock_guard const lock(mutex_);
    std::uint64_t const number = made_[static_cast<std::size_t>(rank)];
    for (auto const& entry : sets_) {
      if (entry.number == number) { return entry.set; }
    }
    sets_.push_back({number, std::make_shared<SetT>(static_cast<int>(made_.size()))});
    return sets_.back().set;
  }
  // The ranks have met over it.
  void made(int rank)
  {
    std::lock_guard const lock(mutex_);
    ++made_[static_cast<std::size_t>(rank)];
    if (!SetT::kept) {
      (void)take_if([](Entry const&) { return true; });
    }
  }
  // Frees those that all ranks have let go.
  void collect()
  {
    std::vector<Entry> gone;
    std::lock_guard const lock(mutex_);
    gone = take_if([](Entry const& entry) { return entry.set.use_count() == 1; });
  }

 private:
  struct Entry {
    std::uint64_t number = 0;  // of the group's windows
    std::shared_ptr<SetT> set;
  };
  // Of those that every rank has made.
  template <class F>
  std::vector<Entry> take_if(F const& f)
  {
    std::uint64_t const by_all = *std::min_element(made_.begin(), made_.end());
    auto const rest = std::stable_partition(sets_.begin(), sets_.end(), [&](Entry const& entry) {
      return entry.number >= by_all || !f(entry);
    });
    std::vector<Entry> taken(std::make_move_iterator(rest), std::make_move_iterator(sets_.end()));
    sets_.erase(rest, sets_.end());
    return taken;
  }

  std::mutex mutex_;
  std::vector<std::uint64_t> made_;  // (P)
  std::vector<Entry> sets_;
};

// made(exec, group, rank, bytes, options); that of Cuda is in cuda/thread_window.cuh.
template <class ExecT>
class ThreadWindow;

template <class ExecT>
concept HasThreadWindow =
    requires(ExecT const exec, std::shared_ptr<ThreadGroup> group, WindowOptions const options) {
      {
        ThreadWindow<ExecT>::made(exec, group, 0, std::size_t{}, options)
      } -> std::same_as<Window<ExecT>>;
    };

// What the ranks must agree on.
inline Fingerprint window_fingerprint(char const* space,
                                      std::size_t bytes,
                                      WindowOptions const& options)
{
  return {.operation     = Collective::window,
          .space         = space,
          .element_bytes = static_cast<std::size_t>(options.channels),
          .count         = static_cast<index_t>(bytes)};
}

// The parts of all ranks of one window on Host.
class HostWindowSet {
 public:
  static constexpr bool kept = false;
  struct Part {
    Part()                       = default;
    Part(Part const&)            = delete;
    Part& operator=(Part const&) = delete;
    ~Part() { release(); }
    void release()
    {
      if (data != nullptr) { resource->deallocate(data, allocated, alignment); }
      data = nullptr;
    }
    std::pmr::memory_resource* resource = nullptr;
    std::byte* data                     = nullptr;
    std::size_t allocated               = 0;
    ThreadSignals signals;
  };

  explicit HostWindowSet(int ranks) : parts_(static_cast<std::size_t>(ranks)) {}

  void raise(int rank, int channel)
  {
    parts_[static_cast<std::size_t>(rank)].signals.raise(channel);
  }
  [[nodiscard]] Part const& of(int rank) const { return parts_[static_cast<std::size_t>(rank)]; }
  void make(int rank, std::pmr::memory_resource* resource, std::size_t bytes, int channels)
  {
    Part& mine = parts_[static_cast<std::size_t>(rank)];
    mine.release();  // of a call that failed after this
    std::size_t const n = std::max<std::size_t>(bytes, 1);
    mine.signals.make(channels);
    mine.data      = static_cast<std::byte*>(resource->allocate(n, alignment));
    mine.resource  = resource;
    mine.allocated = n;
    std::fill_n(mine.data, n, std::byte{0});
  }

 private:
  static constexpr std::size_t alignment = 256;
  std::vector<Part> parts_;  // (P)
};

template <>
class ThreadWindow<Host> final : public WindowModel<Host> {
 public:
  [[nodiscard]] static Window<Host> made(Host const& exec,
                                         std::shared_ptr<ThreadGroup> const& group,
                                         int rank,
                                         std::size_t bytes,
                                         WindowOptions const& options)
  {
    char const* const operation = name_of(Collective::window);
    int const world_rank        = group->world_rank(rank);
    exec.enter(operation);
    check_window({operation, world_rank}, bytes, options);
    ThreadGroup::Call call{
        *group, rank, window_fingerprint(name_of_space(options), bytes, options)};
    auto& windows  = group->stages<ThreadWindows<HostWindowSet>>();
    auto const set = windows.next(rank);
    try {
      set->make(rank, group->state().resource, bytes, options.channels);
    } catch (std::bad_alloc const&) {
      throw OutOfMemoryError(operation,
                             "bytes",
                             text_of(bytes),
                             "what the world's memory resource can give",
                             world_rank);
    }
    auto window = std::make_unique<ThreadWindow>(group, rank, set, bytes, options);
    call.meet();
    windows.made(rank);
    for (int r = 0; r < group->size(); ++r) {
      window->memory_.push_back(set->of(r).data);
    }
    window->view.memory = window->memory_.data();
    window->local       = window->memory_[static_cast<std::size_t>(rank)];
    return Window<Host>(std::move(window));
  }

  ThreadWindow(std::shared_ptr<ThreadGroup> group,
               int rank,
               std::shared_ptr<HostWindowSet> set,
               std::size_t n,
               WindowOptions const& options)
      : group_{std::move(group)},
        set_{std::move(set)},
        deadline_{options.deadline.count() > 0 ? options.deadline : group_->state().deadline}
  {
    memory_.reserve(static_cast<std::size_t>(group_->size()));
    bytes       = n;
    channels    = options.channels;
    world_rank  = group_->world_rank(rank);
    view.rank   = rank;
    view.size   = group_->size();
    view.status = &status_;
  }

  void signal(Host const&, int channel) override
  {
    check();
    set_->raise(view.rank, channel);
  }
  void wait(Host const&, int channel) override
  {
    try {
      wait_for_threads(*group_, view.rank, *set_, channel, deadline_);
    } catch (...) {
      __atomic_store_n(&status_, 1U, __ATOMIC_RELEASE);
      throw;
    }
  }
  void check() override
  {
    std::lock_guard const lock(group_->state().mutex);
    group_->state().check();
  }

 private:
  // Host runs one kernel at a time anyway; the option must still be that of the other ranks.
  static char const* name_of_space(WindowOptions const& options)
  {
    return options.one_kernel_at_a_time ? "Host, one kernel at a time" : "Host";
  }

  std::shared_ptr<ThreadGroup> group_;
  std::shared_ptr<HostWindowSet> set_;
  std::chrono::milliseconds deadline_;
  std::vector<std::byte*> memory_;  // (P)
  std::uint32_t status_ = 0;
};

}  // namespace moe::detail
