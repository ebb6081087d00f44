#pragma once
// One handle of NCCL's: waits that end, the first failure, and the handle's end.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <moe/comm/communication_error.hpp>
#include <moe/comm/nccl_api.hpp>
#include <moe/comm/nccl_wait.hpp>

namespace moe {
namespace detail {

template <NcclApi Api>
class NcclLink {
 public:
  using Comm        = typename Api::Comm;
  using Result      = typename Api::Result;
  using Slot        = NcclSlot<Comm>;
  using SlotPointer = std::shared_ptr<Slot>;

  // owns: ends the handle, by whatever way fits.
  NcclLink(SlotPointer slot, NcclOptions const& options, bool owns)
      : slot_{std::move(slot)}, options_{options}, owns_{owns}
  {
    for (auto const longest : {options.deadline, options.abort_deadline}) {
      Check const check{"moe::NcclCommunicator"};
      check.at_least("deadline in ms", longest.count(), 1);
      check.at_most("deadline in ms",
                    longest.count(),
                    "a year",
                    std::chrono::milliseconds(std::chrono::hours(24 * 365)).count());
    }
  }
  NcclLink(NcclLink const&)            = delete;
  NcclLink& operator=(NcclLink const&) = delete;
  // Peers that work on need not wait for one that is leaving by an exception: that one aborts.
  ~NcclLink()
  {
    if (!owns_ || comm() == Comm{}) { return; }
    if (std::uncaught_exceptions() > exceptions_ || !finalized()) {
      (void)abort(nullptr);
      return;
    }
    (void)run_bounded(options_.abort_deadline, [comm = comm()] { (void)Api::destroy(comm); });
  }

  [[nodiscard]] Comm comm() const { return slot_ != nullptr ? slot_->comm : Comm{}; }
  [[nodiscard]] Slot& slot() const { return *slot_; }
  [[nodiscard]] NcclOptions const& options() const { return options_; }

  struct Place {
    int rank = 0, size = 1;
  };
  Place place;

  // The first failure, again.
  void repeat_failure() const
  {
    if (failure_) { failure_->raise(place.rank); }
  }
  // What NCCL found out since the last call.
  void check(char const* operation)
  {
    repeat_failure();
    if (place.size == 1 || comm() == Comm{}) { return; }
    accept(operation, "ncclCommGetAsyncError", state_of(comm()));
  }
  // Rank and size of `of`: this one, or the group that a split of it makes.
  [[nodiscard]] Place place_in(SlotPointer const& of, char const* operation)
  {
    SlotPointer const child = of != slot_ ? of : nullptr;
    Comm const its          = of->comm;
    Place found;
    until_done(
        operation, "ncclCommUserRank", [&] { return Api::user_rank(its, &found.rank); }, child);
    until_done(operation, "ncclCommCount", [&] { return Api::count(its, &found.size); }, child);
    return found;
  }
  // Counts one more collective.
  void begin(char const* operation)
  {
    check(operation);
    ++sequence_;
  }

  // `call` is repeated until it is no longer in progress.
  template <class F>
  void until_done(char const* operation,
                  char const* name,
                  F const& call,
                  SlotPointer const& child = nullptr)
  {
    NcclPause const pause(options_.deadline);
    Result result = call();
    while (result == Api::in_progress) {
      if (!pause()) { time_is_over(operation, name, child); }
      result = call();
    }
    accept(operation, name, result, child);
  }
  // A call that returned `result` on this handle has been carried out, or failed.
  void settle(char const* operation,
              char const* name,
              Result result,
              SlotPointer const& child = nullptr)
  {
    accept(operation, name, result, child);
    if (result == Api::success) { return; }
    until_done(operation, name, [&] { return state_of(comm()); }, child);
  }
  // A group's handle, once this one's split is done. NCCL writes it from a thread of its own, and
  // may tell that the split is done before it has.
  void settle_group(char const* operation, SlotPointer const& group)
  {
    auto const state = [&] {
      Comm const its = std::atomic_ref(group->comm).load();
      if (its != Comm{}) { return state_of(its); }
      Result const mine = state_of(comm());
      return mine == Api::success ? Api::in_progress : mine;
    };
    until_done(operation, "ncclCommSplit", state, group);
  }
  // exchange(post) hands the result of each send and receive to post(name, result). A failed one
  // ends the group all the same: the thread could not make another.
  template <class F>
  void group(char const* operation, F const& exchange)
  {
    accept(operation, "ncclGroupStart", Api::group_start());
    char const* failed = nullptr;
    Result why         = Api::success;
    exchange([&](char const* name, Result result) {
      if (failed == nullptr && result != Api::success && result != Api::in_progress) {
        failed = name;
        why    = result;
      }
    });
    Result const end = Api::group_end();
    if (failed != nullptr) { accept(operation, failed, why); }
    settle(operation, "ncclGroupEnd", end);
  }
  // done() may throw: what the stream's work failed with.
  template <class F>
  void wait(char const* operation, F const& done)
  {
    NcclPause const pause(options_.deadline);
    for (bool ready = false; !ready;) {
      check(operation);
      try {
        ready = done();
      } catch (Error const& e) {
        fail(operation, "the stream", e.what(), "without errors", nullptr);
      }
      if (!ready && !pause()) { time_is_over(operation, "the stream", nullptr); }
    }
    check(operation);
  }

  // Fails on what is neither success nor in progress.
  void accept(char const* operation,
              char const* name,
              Result result,
              SlotPointer const& child = nullptr)
  {
    if (result == Api::success || result == Api::in_progress) { return; }
    char const* const last = Api::last_error(comm());
    bool const more        = last != nullptr && *last != '\0';
    fail(operation,
         name,
         joined({Api::text(result), more ? ": " : "", more ? last : ""}),
         "done without errors",
         child);
  }

 private:
  struct Failure {
    std::string operation, field, value, limit;
    std::uint64_t sequence = 0;
    [[noreturn]] void raise(int at_rank) const
    {
      throw CommunicationError(operation, field, value, limit, at_rank, sequence);
    }
  };

  static Result state_of(Comm of)
  {
    Result state      = Api::success;
    Result const call = Api::async_error(of, &state);
    return call == Api::success ? state : call;
  }
  [[noreturn]] void time_is_over(char const* operation, char const* name, SlotPointer const& child)
  {
    fail(operation,
         name,
         "in progress",
         joined({"done within the deadline (", text_of(options_.deadline.count()), " ms)"}),
         child);
  }
  // `child`: of a split that may still be writing to it.
  [[noreturn]] void fail(char const* operation,
                         char const* name,
                         std::string value,
                         std::string limit,
                         SlotPointer const& child)
  {
    char const* const note = abort(child);
    failure_.emplace(Failure{operation,
                             joined({name, " (sequence ", text_of(sequence_), ")"}),
                             joined({value, note}),
                             std::move(limit),
                             sequence_});
    failure_->raise(place.rank);
  }

  // At most once for a handle -> what is to be told of it.
  char const* abort(SlotPointer const& child) noexcept
  {
    SlotPointer const parent = std::exchange(slot_, nullptr);
    if (!owns_) {
      if (child != nullptr) { keep_for_ever(child); }
      return "";
    }
    if (parent->comm == Comm{}) { return ""; }
    auto const aborted = run_bounded(options_.abort_deadline, [parent, child] {
      (void)Api::abort(parent->comm);
      // What a split made before it failed, if it did.
      if (child != nullptr && child->comm != Comm{}) { (void)Api::abort(child->comm); }
    });
    if (aborted == NcclEnd::no_thread) {
      keep_for_ever(parent);
      if (child != nullptr) { keep_for_ever(child); }
    }
    return aborted == NcclEnd::ended     ? ""
           : aborted == NcclEnd::running ? "; ncclCommAbort has not returned either"
                                         : "; ncclCommAbort was not called: no thread for it";
  }

  // All work is done and the peers know that this rank leaves. Does not throw: no failure is told.
  bool finalized() noexcept
  {
    NcclPause const pause(options_.deadline);
    Result result = Api::finalize(comm());
    while (result == Api::in_progress) {
      result = state_of(comm());
      if (result == Api::in_progress && !pause()) { break; }
    }
    return result == Api::success;
  }

  SlotPointer slot_;  // null once aborted
  NcclOptions options_;
  bool owns_;
  int exceptions_         = std::uncaught_exceptions();
  std::uint64_t sequence_ = 0;
  std::optional<Failure> failure_;
};

}  // namespace detail
}  // namespace moe
