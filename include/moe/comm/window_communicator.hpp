#pragma once
// A communicator whose small collectives go over a window of another one.
#include <chrono>
#include <concepts>
#include <exception>
#include <memory>
#include <utility>

#include <moe/comm/collective_phase.hpp>
#include <moe/comm/communicator.hpp>
#include <moe/comm/window_round.hpp>

namespace moe {

struct WindowCommunicatorOptions {
  // The most that goes from one rank to another in a collective that uses the window; with more,
  // the inner communicator does it.
  std::size_t bytes = 64 << 10;
  // As those of WindowOptions.
  std::chrono::milliseconds deadline{0};
  bool one_kernel_at_a_time = false;
};

// all_reduce_sum, all_gather and all_to_all of few bytes, in the stream order of ExecT: store,
// signal, wait and read are enqueued, no host meets another, and they are captured into graphs.
// Everything else, and all on another space, is what the inner communicator does.
//
//   moe::WindowCommunicator const small(exec, comm, {.bytes = 64 << 10});
//   moe::AllToAllDispatcher const dispatcher(small);
//
// Made by all ranks of `comm`, with the same options, as is a split. Sums have the bits of
// ThreadCommunicator's: in the order of ranks, 16-bit ones in float and rounded once, integers wrap
// around. What n is decides which way a collective goes, so it is the same on all ranks. On Host,
// ranks whose calls differ are told so; on Cuda they get zeros.
//
// A wait that fails on Cuda gives zeros as well: wait() and check() tell. wait() is what the
// library calls before it reads a result on the host; a program that reads one calls it too.
//
// A handle: copies are the same rank, and one thread at a time uses it. What a rank enqueues on
// several streams it orders itself; ranks that share a GPU need what comm/cuda/window.cuh says. The
// last copy goes as a Window does: after all that uses it is enqueued, graphs that are still to be
// replayed included.
template <class CommT, class ExecT>
class WindowCommunicator {
  static_assert(std::copy_constructible<CommT>,
                "moe::WindowCommunicator: the inner communicator is a handle that can be copied");
  static_assert(HasWindow<CommT, ExecT>,
                "moe::WindowCommunicator: the inner communicator makes windows on this space");

 public:
  WindowCommunicator(ExecT const& exec,
                     CommT const& comm,
                     WindowCommunicatorOptions const& options = {})
      : state_{std::make_shared<State const>(exec, comm, options)}
  {
  }
  // A moved-from one is as it was.
  WindowCommunicator(WindowCommunicator const&)            = default;
  WindowCommunicator& operator=(WindowCommunicator const&) = default;

  [[nodiscard]] int rank() const { return inner().rank(); }
  [[nodiscard]] int size() const { return inner().size(); }
  [[nodiscard]] int world_rank() const
    requires requires(CommT const c) { c.world_rank(); }
  {
    return inner().world_rank();
  }
  [[nodiscard]] CommT const& inner() const { return state_->comm; }

  template <class X, SumElement T>
    requires HasAllReduce<CommT, X, T>
  void all_reduce_sum(X const& exec, View<T, 1, X> x) const
  {
    if constexpr (std::same_as<X, ExecT>) {
      if (small<T>(x.size())) {
        auto const check = entered(exec, "moe::WindowCommunicator::all_reduce_sum");
        check.check.not_null("x", x);
        auto const phase =
            detail::collective_phase(exec, detail::bytes_of_all_reduce(bytes<T>(x.size()), size()));
        if (x.empty() || size() == 1) { return; }
        using Row = detail::SumRoundRow<T>;
        // Ranks that add up different types of one size are not the same call.
        auto const kind  = static_cast<unsigned char>(*detail::sum_fingerprint<T>(0).element_kind);
        auto const round = round_of<T>(1 + (std::uint64_t{kind} << 8), x.size());
        store_and_read(exec,
                       check,
                       round,
                       x.data_handle(),
                       x.size(),
                       0,
                       (x.size() + Row::block - 1) / Row::block,
                       Row{round, x.data_handle(), x.size()});
        return;
      }
    }
    inner().all_reduce_sum(exec, x);
  }

  template <class X, TransferElement T>
    requires HasAllGather<CommT, X, T>
  void all_gather(X const& exec,
                  std::type_identity_t<View<T const, 1, X>> send,
                  View<T, 1, X> receive) const
  {
    if constexpr (std::same_as<X, ExecT>) {
      index_t const n = send.size();
      if (small<T>(n)) {
        auto const check = entered(exec, "moe::WindowCommunicator::all_gather");
        check.all_gather(send, receive);
        exchange(exec, check, round_of<T>(2, n), send.data_handle(), receive.data_handle(), n, 0);
        return;
      }
    }
    inner().all_gather(exec, send, receive);
  }

  template <class X, TransferElement T>
    requires HasAllToAll<CommT, X, T>
  void all_to_all(X const& exec,
                  std::type_identity_t<View<T const, 1, X>> send,
                  View<T, 1, X> receive) const
  {
    if constexpr (std::same_as<X, ExecT>) {
      index_t const n = receive.size() / size();
      if (small<T>(n)) {
        auto const check = entered(exec, "moe::WindowCommunicator::all_to_all");
        check.all_to_all(send, receive);
        exchange(exec, check, round_of<T>(3, n), send.data_handle(), receive.data_handle(), n, n);
        return;
      }
    }
    inner().all_to_all(exec, send, receive);
  }

  template <class X, SumElement T>
    requires HasReduceScatter<CommT, X, T>
  void reduce_scatter_sum(X const& exec,
                          std::type_identity_t<View<T const, 1, X>> send,
                          View<T, 1, X> receive) const
  {
    inner().reduce_scatter_sum(exec, send, receive);
  }
  template <class X, TransferElement T>
    requires HasAllToAllV<CommT, X, T>
  void all_to_all_v(X const& exec,
                    std::type_identity_t<View<T const, 1, X>> send,
                    RankBlocks const& send_blocks,
                    View<T, 1, X> receive,
                    RankBlocks const& receive_blocks) const
  {
    inner().all_to_all_v(exec, send, send_blocks, receive, receive_blocks);
  }

  // Each group has a window of its own.
  [[nodiscard]] WindowCommunicator split(int color, int key) const
    requires HasSplit<CommT>
  {
    return {state_->exec, inner().split(color, key), state_->options};
  }
  template <class X>
    requires HasWindow<CommT, X>
  [[nodiscard]] Window<X> window(X const& exec,
                                 std::size_t bytes,
                                 WindowOptions const& options = {}) const
  {
    return inner().window(exec, bytes, options);
  }

  // Until what is enqueued is done; throws if a wait for a peer has failed.
  template <class X>
  void wait(X const& exec) const
  {
    if constexpr (requires { inner().wait(exec); }) {
      inner().wait(exec);
    } else {
      exec.synchronize();
    }
    state_->window.check();
  }
  // Throws what is known of failures so far; waits for nothing.
  void check() const
  {
    if constexpr (requires { inner().check(); }) { inner().check(); }
    state_->window.check();
  }
  void abort(std::exception_ptr const& cause = nullptr) const noexcept
    requires requires(CommT const c) { c.abort(cause); }
  {
    inner().abort(cause);
  }

 private:
  struct State {
    State(ExecT const& e, CommT const& c, WindowCommunicatorOptions const& o)
        : exec{e},
          comm{c},
          options{o},
          slot_bytes{checked_slot(c, o)},
          window{c.window(e,
                          detail::WindowRound::window_bytes(slot_bytes, c.size()),
                          {.channels             = 1,
                           .deadline             = o.deadline,
                           .one_kernel_at_a_time = o.one_kernel_at_a_time})}
    {
    }
    static std::size_t checked_slot(CommT const& c, WindowCommunicatorOptions const& o)
    {
      Check{"moe::WindowCommunicator", c.rank()}.at_most(
          "bytes in MiB", static_cast<index_t>(o.bytes >> 20), "those of 1 GiB", 1024);
      return detail::WindowRound::slot(o.bytes);
    }
    ExecT exec;
    CommT comm;
    WindowCommunicatorOptions options;
    std::size_t slot_bytes;
    Window<ExecT> window;
  };

  template <class T>
  [[nodiscard]] static std::size_t bytes(index_t n)
  {
    return static_cast<std::size_t>(n) * sizeof(T);
  }
  template <class T>
  [[nodiscard]] bool small(index_t n) const
  {
    return static_cast<std::size_t>(n) <= state_->options.bytes / sizeof(T);
  }
  [[nodiscard]] detail::CollectiveCheck entered(ExecT const& exec, char const* operation) const
  {
    exec.enter(operation);
    return {{operation, rank()}, size()};
  }
  template <class T>
  [[nodiscard]] detail::WindowRound round_of(std::uint64_t collective, index_t n) const
  {
    return {state_->window.view(),
            state_->slot_bytes,
            collective << 48 | std::uint64_t{sizeof(T)} << 32 | std::uint64_t{bytes<T>(n)}};
  }

  // Parts of n elements are stored at the peers, and when those of the peers are here `read` has
  // its rows.
  template <class T, class ReadT>
  void store_and_read(ExecT const& exec,
                      detail::CollectiveCheck const& check,
                      detail::WindowRound const& round,
                      T const* from,
                      index_t n,
                      index_t stride,
                      index_t rows,
                      ReadT const& read) const
  {
    constexpr auto element = static_cast<index_t>(sizeof(T));
    detail::RoundPieces const pieces{n * element};
    index_t const parts = size() * pieces.per_part();
    detail::StorePartRow const store{
        round, pieces, reinterpret_cast<std::byte const*>(from), stride * element};
    if constexpr (std::same_as<ExecT, Host>) {
      for_each_row_and_wait(exec, parts, store, state_->window, 0);
      refuse_other_calls(check.check, round);
      exec.for_each_row(rows, read);
    } else {
      for_each_row_and_wait(exec, parts, store, state_->window, 0, rows, read);
    }
  }
  template <class T>
  void exchange(ExecT const& exec,
                detail::CollectiveCheck const& check,
                detail::WindowRound const& round,
                T const* send,
                T* receive,
                index_t n,
                index_t stride) const
  {
    auto const phase = detail::collective_phase(exec, detail::bytes_to_others(bytes<T>(n), size()));
    if (n == 0) { return; }
    if (size() == 1) { return exec.copy(receive, send, bytes<T>(n)); }
    detail::RoundPieces const pieces{n * static_cast<index_t>(sizeof(T))};
    store_and_read(exec,
                   check,
                   round,
                   send,
                   n,
                   stride,
                   size() * pieces.per_part(),
                   detail::ReadPartRow{round, pieces, reinterpret_cast<std::byte*>(receive)});
  }
  static void refuse_other_calls(Check const& check, detail::WindowRound const& round)
  {
    std::uint64_t const now = *round.rounds_stored();
    for (int r = 0; r < round.view.size; ++r) {
      if (!round.arrived(r, now)) {
        throw CommunicationError(check.operation,
                                 detail::joined({"the call of rank ", detail::text_of(r)}),
                                 "another collective, or of another size",
                                 detail::joined({"as of rank ", detail::text_of(round.view.rank)}),
                                 r,
                                 now);
      }
    }
  }

  std::shared_ptr<State const> state_;
};
static_assert(HasSplit<WindowCommunicator<SelfCommunicator, Host>> &&
              ExchangeCommunicator<WindowCommunicator<SelfCommunicator, Host>, Host, float> &&
              HasWindow<WindowCommunicator<SelfCommunicator, Host>, Host>);

}  // namespace moe
