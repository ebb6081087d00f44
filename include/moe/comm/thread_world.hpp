#pragma once
// A world of ranks that are threads of this process.
//
//   moe::ThreadWorld world(4);
//   world.run([&](moe::ThreadCommunicator const& comm) { ... });  // one thread per rank
//
// No rank waits longer than the deadline, and the first failure of any rank ends all of them.
#include <chrono>
#include <exception>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <moe/comm/thread_communicator.hpp>

namespace moe {

struct ThreadWorldOptions {
  // No rank waits longer for another. Long enough for the longest work between two collectives.
  std::chrono::milliseconds deadline = std::chrono::minutes(5);
  // Of the bytes staged on Host, which are kept: of each communicator and rank, twice the most that
  // it has sent in one collective. Null: new and delete. The caller's must outlive every
  // communicator.
  std::pmr::memory_resource* resource = nullptr;
};

class ThreadWorld {
 public:
  explicit ThreadWorld(int ranks, ThreadWorldOptions const& options = {})
  {
    using std::chrono::milliseconds;
    constexpr int most = 4096;
    Check const check{"moe::ThreadWorld"};
    check.at_least("ranks", ranks, 1);
    check.at_most("ranks", ranks, "the most of one process", most);
    check.at_least("deadline in ms", options.deadline.count(), 1);
    check.at_most("deadline in ms",
                  options.deadline.count(),
                  "a year",
                  milliseconds(std::chrono::hours(24 * 365)).count());
    std::vector<int> all;
    for (int r = 0; r < ranks; ++r) {
      all.push_back(r);
    }
    group_ = std::make_shared<detail::ThreadGroup>(
        std::make_shared<detail::ThreadState>(
            ranks,
            options.deadline,
            options.resource != nullptr ? options.resource : std::pmr::new_delete_resource()),
        std::move(all),
        "");
  }

  [[nodiscard]] int size() const { return group_->size(); }

  // For threads of the caller's own, each with a RankGuard.
  [[nodiscard]] ThreadCommunicator communicator(int rank) const
  {
    Check const check{"moe::ThreadWorld::communicator"};
    check.at_least("rank", rank, 0);
    check.at_most("rank", rank, "ranks - 1", size() - 1);
    return {group_, rank};
  }

  // f(communicator) on one thread per rank, the caller's being rank 0; returns when all have. When
  // one leaves by an exception, the others' waits end with a CommunicationError that says so; then
  // the exception that was the first cause is thrown here. A world that has failed stays failed.
  template <class F>
  void run(F const& f) const
  {
    std::vector<std::exception_ptr> ends(static_cast<std::size_t>(size()));
    auto const rank = [&](int r) {
      ThreadCommunicator const comm = communicator(r);
      try {
        f(comm);
      } catch (...) {
        ends[static_cast<std::size_t>(r)] = std::current_exception();
        comm.abort(ends[static_cast<std::size_t>(r)]);
      }
    };
    std::vector<std::thread> threads;
    threads.reserve(ends.size());
    bool started = true;
    try {
      for (int r = 1; r < size(); ++r) {
        threads.emplace_back(rank, r);
      }
    } catch (...) {  // no more threads, or no memory for one
      started = false;
      communicator(static_cast<int>(threads.size()) + 1).abort(std::current_exception());
    }
    if (started) { rank(0); }
    for (auto& t : threads) {
      t.join();
    }
    if (!started) {
      throw ValueError("moe::ThreadWorld::run",
                       "ranks",
                       detail::text_of(size()),
                       "at most what the system starts threads for (" +
                           detail::text_of(threads.size() + 1) + ")");
    }
    rethrow_first(ends);
  }

 private:
  // Where a rank caught its own error and only its peers left by theirs, those say the same.
  void rethrow_first(std::vector<std::exception_ptr> const& ends) const
  {
    bool any = false;
    for (auto const& e : ends) {
      any = any || e != nullptr;
    }
    if (!any) { return; }
    auto& state = group_->state();
    std::lock_guard const lock(state.mutex);
    auto const& first = ends[static_cast<std::size_t>(state.seen_by())];
    if (first) { std::rethrow_exception(first); }
    state.check();
  }

  std::shared_ptr<detail::ThreadGroup> group_;
};

// Ends the world when its scope is left by an exception: for ranks on threads of the caller's own.
class RankGuard {
 public:
  explicit RankGuard(ThreadCommunicator comm)
      : comm_{std::move(comm)}, exceptions_{std::uncaught_exceptions()}
  {
  }
  RankGuard(RankGuard const&)            = delete;
  RankGuard& operator=(RankGuard const&) = delete;
  ~RankGuard()
  {
    if (std::uncaught_exceptions() > exceptions_) { comm_.abort(); }
  }

 private:
  ThreadCommunicator comm_;
  int exceptions_;
};

}  // namespace moe
