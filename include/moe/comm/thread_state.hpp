#pragma once
// What all ranks of a ThreadWorld share: one lock, the deadline, and the first failure.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory_resource>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <moe/comm/communication_error.hpp>

namespace moe::detail {

enum class Collective : std::uint8_t {
  none,
  all_reduce_sum,
  all_gather,
  reduce_scatter_sum,
  all_to_all,
  all_to_all_v,
  split,
  window
};

inline char const* name_of(Collective c)
{
  constexpr char const* names[] = {"moe::ThreadWorld",
                                   "moe::ThreadCommunicator::all_reduce_sum",
                                   "moe::ThreadCommunicator::all_gather",
                                   "moe::ThreadCommunicator::reduce_scatter_sum",
                                   "moe::ThreadCommunicator::all_to_all",
                                   "moe::ThreadCommunicator::all_to_all_v",
                                   "moe::ThreadCommunicator::split",
                                   "moe::ThreadCommunicator::window"};
  return names[static_cast<int>(c)];
}

// An error as plain text, from which each rank makes an exception of its own: no two threads share
// an exception object.
struct ThreadFailure {
  std::string operation, field, value, limit;
  int rank               = 0;
  std::uint64_t sequence = 0;
  std::vector<int> missing;  // not empty: a timeout

  [[noreturn]] void raise() const
  {
    if (!missing.empty()) { throw TimeoutError(operation, field, value, limit, missing, sequence); }
    throw CommunicationError(operation, field, value, limit, rank, sequence);
  }
};

class ThreadState {
 public:
  ThreadState(int ranks, std::chrono::milliseconds longest_wait, std::pmr::memory_resource* memory)
      : deadline{longest_wait},
        resource{memory},
        wake_(static_cast<std::size_t>(ranks)),
        reached_(static_cast<std::size_t>(ranks))
  {
  }

  std::mutex mutex;  // guards everything here but the constants, and what ThreadGroup says
  std::chrono::milliseconds const deadline;
  std::pmr::memory_resource* const resource;

  // Those below are called with `mutex` held.

  void reach(int rank, Collective operation, std::uint64_t sequence)
  {
    reached_[static_cast<std::size_t>(rank)] = {operation, sequence};
  }
  [[nodiscard]] std::condition_variable& wake(int rank)
  {
    return wake_[static_cast<std::size_t>(rank)];
  }
  [[nodiscard]] bool failed() const { return failure_.has_value(); }
  [[nodiscard]] int seen_by() const { return seen_by_; }  // the rank that reported the failure
  void check() const
  {
    if (failure_) { failure_->raise(); }
  }
  // Only the first is kept: what fails after it fails because of it.
  void fail(int by, ThreadFailure failure) noexcept
  {
    if (failure_) { return; }
    failure_ = std::move(failure);
    seen_by_ = by;
    for (std::uint32_t* const word : words_) {
      __atomic_store_n(word, 1U, __ATOMIC_RELEASE);
    }
    for (auto& w : wake_) {
      w.notify_all();
    }
  }

  // -- these take the lock themselves --

  // `word` becomes 1 when the world fails, or is it already: for waits that are not on this lock.
  void watch(std::uint32_t* word)
  {
    std::lock_guard const lock(mutex);
    words_.push_back(word);
    if (failure_) { __atomic_store_n(word, 1U, __ATOMIC_RELEASE); }
  }
  void forget(std::uint32_t const* word) noexcept
  {
    std::lock_guard const lock(mutex);
    words_.erase(std::remove(words_.begin(), words_.end(), word), words_.end());
  }

  // Rank `rank` ends with `cause` (null: an exception that is not known).
  void abort(int rank, std::exception_ptr const& cause) noexcept
  {
    ThreadFailure failure;
    try {
      failure = describe(rank, cause);
    } catch (...) {  // no memory for the text: short ones need none
      failure      = {};
      failure.rank = rank;
    }
    std::lock_guard const lock(mutex);
    fail(rank, std::move(failure));
  }

 private:
  struct Reached {
    Collective operation   = Collective::none;
    std::uint64_t sequence = 0;
  };

  [[nodiscard]] ThreadFailure describe(int rank, std::exception_ptr const& cause)
  {
    std::string text = "an exception";
    try {
      if (cause) { std::rethrow_exception(cause); }
    } catch (TimeoutError const& e) {
      return {e.operation, e.field, e.value, e.limit, e.rank, e.sequence, e.missing};
    } catch (CommunicationError const& e) {
      return {e.operation, e.field, e.value, e.limit, e.rank, e.sequence, {}};
    } catch (std::exception const& e) {
      text = joined({"an exception (", e.what(), ")"});
    } catch (...) {
    }
    Reached at;
    {
      std::lock_guard const lock(mutex);
      at = reached_[static_cast<std::size_t>(rank)];
    }
    std::string const number = text_of(at.sequence);
    return {name_of(at.operation),
            at.sequence == 0
                ? joined({"rank ", text_of(rank), ", before its first collective,"})
                : joined({"rank ", text_of(rank), ", after it came to sequence ", number, ","}),
            joined({"ended by ", text}),
            "running",
            rank,
            at.sequence,
            {}};
  }

  std::vector<std::condition_variable> wake_;  // (P), one for each rank to sleep on
  std::vector<Reached> reached_;               // (P)
  std::vector<std::uint32_t*> words_;
  std::optional<ThreadFailure> failure_;
  int seen_by_ = -1;
};

}  // namespace moe::detail
