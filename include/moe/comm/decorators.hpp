#pragma once
// Communicators around a communicator: one records its collectives, one delays them, one fails at
// one of them. For tests, and to see what a layer sends.
#include <chrono>
#include <concepts>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <moe/comm/communication_error.hpp>
#include <moe/comm/communicator.hpp>

namespace moe {

// One collective as one rank calls it.
struct CollectiveCall {
  char const* operation  = "";  // "all_gather", as in the contract
  std::size_t bytes      = 0;   // that this rank gives, its own part included
  std::uint64_t sequence = 0;   // counted from 1 through the decorator and all that split from it
};

// `Hook` is called with (communicator, CollectiveCall) before each collective. Copies of a
// decorator, and what split from it, share the hook and the count; each rank has its own.
template <class DerivedT, class CommT, class Hook>
class CommunicatorDecorator {
 public:
  [[nodiscard]] int rank() const { return comm_.rank(); }
  [[nodiscard]] int size() const { return comm_.size(); }
  [[nodiscard]] CommT const& inner() const { return comm_; }

  template <class ExecT, class T>
    requires HasAllReduce<CommT, ExecT, T>
  void all_reduce_sum(ExecT const& exec, View<T, 1, ExecT> x) const
  {
    before("all_reduce_sum", x.size(), sizeof(T));
    comm_.all_reduce_sum(exec, x);
  }
  template <class ExecT, class T>
    requires HasAllGather<CommT, ExecT, T>
  void all_gather(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    before("all_gather", send.size(), sizeof(T));
    comm_.all_gather(exec, send, receive);
  }
  template <class ExecT, class T>
    requires HasReduceScatter<CommT, ExecT, T>
  void reduce_scatter_sum(ExecT const& exec,
                          std::type_identity_t<View<T const, 1, ExecT>> send,
                          View<T, 1, ExecT> receive) const
  {
    before("reduce_scatter_sum", send.size(), sizeof(T));
    comm_.reduce_scatter_sum(exec, send, receive);
  }
  template <class ExecT, class T>
    requires HasAllToAll<CommT, ExecT, T>
  void all_to_all(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    before("all_to_all", send.size(), sizeof(T));
    comm_.all_to_all(exec, send, receive);
  }
  template <class ExecT, class T>
    requires HasAllToAllV<CommT, ExecT, T>
  void all_to_all_v(ExecT const& exec,
                    std::type_identity_t<View<T const, 1, ExecT>> send,
                    RankBlocks const& send_blocks,
                    View<T, 1, ExecT> receive,
                    RankBlocks const& receive_blocks) const
  {
    index_t sent = 0;
    for (index_t const n : send_blocks.counts) {
      sent += n;
    }
    before("all_to_all_v", sent, sizeof(T));
    comm_.all_to_all_v(exec, send, send_blocks, receive, receive_blocks);
  }
  [[nodiscard]] DerivedT split(int color, int key) const
    requires HasSplit<CommT>
  {
    before("split", 0, 0);
    return DerivedT(comm_.split(color, key), state_);
  }
  // A collective as the others; what the ranks then store into it, and its flags, pass by.
  template <class ExecT>
    requires HasWindow<CommT, ExecT>
  [[nodiscard]] Window<ExecT> window(ExecT const& exec,
                                     std::size_t bytes,
                                     WindowOptions const& options = {}) const
  {
    before("window", static_cast<index_t>(bytes), 1);
    return comm_.window(exec, bytes, options);
  }
  // What a communicator has of these is no collective.
  template <class ExecT>
    requires requires(CommT const c, ExecT const e) { c.wait(e); }
  void wait(ExecT const& exec) const
  {
    comm_.wait(exec);
  }
  void check() const
    requires requires(CommT const c) { c.check(); }
  {
    comm_.check();
  }

 protected:
  struct State {
    Hook hook;
    std::uint64_t calls = 0;
  };
  CommunicatorDecorator(CommT comm, Hook hook)
      : CommunicatorDecorator{std::move(comm), std::make_shared<State>(State{std::move(hook)})}
  {
  }
  CommunicatorDecorator(CommT comm, std::shared_ptr<State> state)
      : comm_{std::move(comm)}, state_{std::move(state)}
  {
  }
  [[nodiscard]] Hook const& hook() const { return state_->hook; }

 private:
  void before(char const* operation, index_t elements, std::size_t element_bytes) const
  {
    state_->hook(
        comm_,
        CollectiveCall{
            operation, static_cast<std::size_t>(elements) * element_bytes, ++state_->calls});
  }

  CommT comm_;
  std::shared_ptr<State> state_;
};

namespace detail {

struct RecordCalls {
  std::vector<CollectiveCall> calls;
  template <class CommT>
  void operator()(CommT const&, CollectiveCall const& call)
  {
    calls.push_back(call);
  }
};

struct DelayCalls {
  std::chrono::microseconds delay;
  template <class CommT>
  void operator()(CommT const&, CollectiveCall const&) const
  {
    std::this_thread::sleep_for(delay);
  }
};

struct FailCall {
  std::uint64_t sequence;
  int rank;  // of the communicator that was decorated, also in groups
  template <class CommT>
  void operator()(CommT const&, CollectiveCall const& call) const
  {
    if (call.sequence != sequence) { return; }
    throw CommunicationError(call.operation,
                             "collective",
                             joined({"number ", text_of(sequence), " of a FailingCommunicator"}),
                             "another",
                             rank,
                             sequence);
  }
};

}  // namespace detail

template <class CommT>
class RecordingCommunicator
    : public CommunicatorDecorator<RecordingCommunicator<CommT>, CommT, detail::RecordCalls> {
  using Base = CommunicatorDecorator<RecordingCommunicator<CommT>, CommT, detail::RecordCalls>;
  friend Base;
  RecordingCommunicator(CommT comm, std::shared_ptr<typename Base::State> state)
      : Base{std::move(comm), std::move(state)}
  {
  }

 public:
  explicit RecordingCommunicator(CommT comm) : Base{std::move(comm), detail::RecordCalls{}} {}
  // In the order of the calls; also those that were refused.
  [[nodiscard]] std::vector<CollectiveCall> const& calls() const { return this->hook().calls; }
};

// Sleeps before each collective: a slow rank.
template <class CommT>
class DelayedCommunicator
    : public CommunicatorDecorator<DelayedCommunicator<CommT>, CommT, detail::DelayCalls> {
  using Base = CommunicatorDecorator<DelayedCommunicator<CommT>, CommT, detail::DelayCalls>;
  friend Base;
  DelayedCommunicator(CommT comm, std::shared_ptr<typename Base::State> state)
      : Base{std::move(comm), std::move(state)}
  {
  }

 public:
  DelayedCommunicator(CommT comm, std::chrono::microseconds delay)
      : Base{std::move(comm), detail::DelayCalls{delay}}
  {
  }
};

// Throws a CommunicationError in place of its `sequence`-th collective, on the rank that has it.
template <class CommT>
class FailingCommunicator
    : public CommunicatorDecorator<FailingCommunicator<CommT>, CommT, detail::FailCall> {
  using Base = CommunicatorDecorator<FailingCommunicator<CommT>, CommT, detail::FailCall>;
  friend Base;
  FailingCommunicator(CommT comm, std::shared_ptr<typename Base::State> state)
      : Base{std::move(comm), std::move(state)}
  {
  }

 public:
  FailingCommunicator(CommT const& comm, std::uint64_t sequence)
      : Base{comm, detail::FailCall{sequence, comm.rank()}}
  {
  }
};

static_assert(HasSplit<RecordingCommunicator<SelfCommunicator>> &&
              HasSplit<DelayedCommunicator<SelfCommunicator>> &&
              HasSplit<FailingCommunicator<SelfCommunicator>>);

}  // namespace moe
