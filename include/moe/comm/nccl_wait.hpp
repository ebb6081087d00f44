#pragma once
// Waits that end at a deadline, and memory that outlives them.
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace moe {

struct NcclOptions {
  // Of each wait: for a communicator to be made, a collective to be accepted, wait().
  std::chrono::milliseconds deadline = std::chrono::minutes(5);
  // Of ncclCommAbort and ncclCommDestroy, on top of it. A call that lasts longer is left to a
  // thread that nobody waits for.
  std::chrono::milliseconds abort_deadline = std::chrono::seconds(20);
};

namespace detail {

// Moments of a wait, until its deadline.
class NcclPause {
 public:
  explicit NcclPause(std::chrono::milliseconds longest) : longest_{longest} {}
  // Waits for one; false when the deadline has passed.
  [[nodiscard]] bool operator()() const
  {
    auto const passed = std::chrono::steady_clock::now() - start_;
    if (passed >= longest_) { return false; }
    if (passed < std::chrono::milliseconds(1)) {
      std::this_thread::yield();  // most calls take microseconds
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return true;
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::milliseconds longest_;
};

enum class NcclEnd { ended, running, no_thread };

// f() on a thread of its own, which is left to itself when the time is over.
template <class F>
NcclEnd run_bounded(std::chrono::milliseconds longest, F f) noexcept
{
  try {
    auto const done = std::make_shared<std::atomic<bool>>(false);
    std::thread thread([done, f = std::move(f)] {
      f();
      done->store(true);
    });
    NcclPause const pause(longest);
    while (!done->load()) {
      if (!pause()) {
        thread.detach();
        return NcclEnd::running;
      }
    }
    thread.join();
    return NcclEnd::ended;
  } catch (...) {  // the system has no thread or no memory for one
    return NcclEnd::no_thread;
  }
}

// Where NCCL writes a handle, possibly after a deadline: on the heap, and let go only when no call
// can write any more.
template <class CommT>
struct NcclSlot {
  CommT comm{};
};
inline void keep_for_ever(std::shared_ptr<void> memory) noexcept
{
  static std::mutex mutex;
  static std::vector<std::shared_ptr<void>>& kept = *new std::vector<std::shared_ptr<void>>;
  std::lock_guard const lock(mutex);
  kept.push_back(std::move(memory));  // without memory for it the program ends: better than to free
}

}  // namespace detail
}  // namespace moe
