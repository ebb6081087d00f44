#pragma once
// Contract: the ranks that share one layer. Counts, losses and capacity are taken over all of them,
// and rows travel between them.
#include <concepts>
#include <cstddef>
#include <type_traits>

#include <moe/comm/collective_check.hpp>
#include <moe/comm/self_window.hpp>
#include <moe/core/element.hpp>
#include <moe/core/view.hpp>

namespace moe {

// A collective is called by every rank of the communicator, each with its own buffers, all in the
// same order and with the same element type and n. It works in the stream order of `exec`; buffers
// are of the space of `exec`, and send and receive do not overlap. What one rank can see to be
// wrong is refused there with a typed error before anything is sent (ShapeError, ValueError,
// AliasError); what takes two ranks to see, or a rank that fails or never comes, is a
// CommunicationError.

// What can travel: bytes.
template <class T>
concept TransferElement = std::is_trivially_copyable_v<T> && !std::is_const_v<T>;

// What can be added up.
template <class T>
concept SumElement =
    Element<T> || (std::integral<T> && !std::same_as<T, bool> && !std::is_const_v<T>);

template <class C>
concept HasRank = requires(C const c) {
  { c.rank() } -> std::convertible_to<int>;
  { c.size() } -> std::convertible_to<int>;
};

// x (n) = sum over ranks of x, in place. Every rank gets the same bits.
template <class C, class ExecT, class T>
concept HasAllReduce = requires(C const c, ExecT const exec, View<T, 1, ExecT> x) {
  { c.all_reduce_sum(exec, x) } -> std::same_as<void>;
};

// receive (P*n): part r = rank r's send (n).
template <class C, class ExecT, class T>
concept HasAllGather =
    requires(C const c, ExecT const exec, View<T const, 1, ExecT> send, View<T, 1, ExecT> receive) {
      { c.all_gather(exec, send, receive) } -> std::same_as<void>;
    };

// receive (n) = sum over ranks of part rank() of their send (P*n).
template <class C, class ExecT, class T>
concept HasReduceScatter =
    requires(C const c, ExecT const exec, View<T const, 1, ExecT> send, View<T, 1, ExecT> receive) {
      { c.reduce_scatter_sum(exec, send, receive) } -> std::same_as<void>;
    };

// receive (P*n): part r = part rank() of rank r's send (P*n).
template <class C, class ExecT, class T>
concept HasAllToAll =
    requires(C const c, ExecT const exec, View<T const, 1, ExecT> send, View<T, 1, ExecT> receive) {
      { c.all_to_all(exec, send, receive) } -> std::same_as<void>;
    };

// Block r of receive = block rank() of rank r's send; the counts of the two must be equal, zero is
// fine. Blocks of receive do not overlap; elements of no block keep their values.
template <class C, class ExecT, class T>
concept HasAllToAllV = requires(C const c,
                                ExecT const exec,
                                View<T const, 1, ExecT> send,
                                RankBlocks const send_blocks,
                                View<T, 1, ExecT> receive,
                                RankBlocks const receive_blocks) {
  { c.all_to_all_v(exec, send, send_blocks, receive, receive_blocks) } -> std::same_as<void>;
};

// A communicator among the ranks that give the same color (at least 0), ranked by key and, where
// keys are equal, by their rank here. Collective, of all ranks here.
template <class C>
concept HasSplit = requires(C const c, int color, int key) {
  { c.split(color, key) } -> std::same_as<C>;
};

// A world that is of one by its type: what only several ranks need is not even compiled.
template <class C>
concept AlwaysAlone = requires { requires C::size() == 1; };

// What plan, capacity and losses count with.
template <class C, class ExecT>
concept Communicator = HasRank<C> && HasAllReduce<C, ExecT, Id> && HasAllReduce<C, ExecT, float>;

// What rows of T travel over between the ranks: flat, in two levels (split), or gathered and
// scattered.
template <class C, class ExecT, class T>
concept ExchangeCommunicator =
    Communicator<C, ExecT> && HasAllGather<C, ExecT, T> && HasAllGather<C, ExecT, index_t> &&
    HasReduceScatter<C, ExecT, T> && HasAllToAll<C, ExecT, T> && HasAllToAll<C, ExecT, index_t> &&
    HasAllToAllV<C, ExecT, T> && HasAllToAllV<C, ExecT, Id> && HasSplit<C>;

// A world of one: reductions are already done, exchanges are copies.
struct SelfCommunicator {
  static constexpr int rank() { return 0; }
  static constexpr int size() { return 1; }
  template <class ExecT, SumElement T>
  void all_reduce_sum(ExecT const&, View<T, 1, ExecT>) const
  {
  }
  template <class ExecT, TransferElement T>
  void all_gather(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    copy("moe::SelfCommunicator::all_gather", exec, send, receive);
  }
  template <class ExecT, SumElement T>
  void reduce_scatter_sum(ExecT const& exec,
                          std::type_identity_t<View<T const, 1, ExecT>> send,
                          View<T, 1, ExecT> receive) const
  {
    copy("moe::SelfCommunicator::reduce_scatter_sum", exec, send, receive);
  }
  template <class ExecT, TransferElement T>
  void all_to_all(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    copy("moe::SelfCommunicator::all_to_all", exec, send, receive);
  }
  template <class ExecT, TransferElement T>
  void all_to_all_v(ExecT const& exec,
                    std::type_identity_t<View<T const, 1, ExecT>> send,
                    RankBlocks const& send_blocks,
                    View<T, 1, ExecT> receive,
                    RankBlocks const& receive_blocks) const
  {
    detail::CollectiveCheck const check{{"moe::SelfCommunicator::all_to_all_v"}, 1};
    check.all_to_all_v(send, send_blocks, receive, receive_blocks);
    check.check.equal(
        "receive count", receive_blocks.counts[0], "send count", send_blocks.counts[0]);
    exec.enter(check.check.operation);
    exec.copy(receive.data_handle() + receive_blocks.offsets[0],
              send.data_handle() + send_blocks.offsets[0],
              static_cast<std::size_t>(send_blocks.counts[0]) * sizeof(T));
  }
  [[nodiscard]] SelfCommunicator split(int color, int) const
  {
    Check{"moe::SelfCommunicator::split"}.at_least("color", color, 0);
    return {};
  }
  template <class ExecT>
    requires detail::HasSelfWindow<ExecT>
  [[nodiscard]] Window<ExecT> window(ExecT const& exec,
                                     std::size_t bytes,
                                     WindowOptions const& options = {}) const
  {
    return detail::SelfWindow<ExecT>::made(exec, bytes, options);
  }

 private:
  template <class ExecT, class T>
  static void copy(char const* operation,
                   ExecT const& exec,
                   View<T const, 1, ExecT> send,
                   View<T, 1, ExecT> receive)
  {
    detail::CollectiveCheck const check{{operation}, 1};
    check.buffers(send, receive);
    check.check.equal("receive extent", receive.size(), "send extent", send.size());
    exec.enter(operation);
    exec.copy(receive.data_handle(),
              send.data_handle(),
              static_cast<std::size_t>(send.size()) * sizeof(T));
  }
};
static_assert(HasRank<SelfCommunicator> && HasSplit<SelfCommunicator> &&
              HasWindow<SelfCommunicator, Host>);

namespace detail {

// Before the host reads what a collective gave: a communicator whose work may wait on the device
// for a rank that has died has a wait of its own, which ends with an error; the device's would not
// end.
template <class ExecT, class CommT>
void wait_for_ranks([[maybe_unused]] ExecT const& exec, [[maybe_unused]] CommT const& comm)
{
  if constexpr (requires { comm.wait(exec); }) { comm.wait(exec); }
}

}  // namespace detail

}  // namespace moe
