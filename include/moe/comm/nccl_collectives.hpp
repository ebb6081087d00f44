#pragma once
// What the two communicators of nccl_communicator.hpp have in common: collectives, split, waits.
#include <moe/comm/collective_phase.hpp>
#include <moe/comm/nccl_link.hpp>

namespace moe::detail {

// A collective returns when NCCL has accepted it; its work is in the order of the stream of `exec`.
// wait() waits for that work, and is what ends with an error when a peer has died: a program that
// waits for the stream by itself waits for ever. Every failure is a CommunicationError with the
// operation, its number, NCCL's call and NCCL's words, is told by the rank that saw it (NCCL does
// not say who is at fault), and is thrown again by each later call; NCCL has no message for peers
// that call another collective or with other counts, which ends at the deadline.
//
// A handle: copies are the same rank; one thread at a time uses it. A world of one calls nothing of
// NCCL's.
template <class DerivedT, NcclApi Api>
class NcclCollectives {
 public:
  [[nodiscard]] int rank() const { return link().place.rank; }
  [[nodiscard]] int size() const { return link().place.size; }
  // NCCL's; null in a world of one and after a failure.
  [[nodiscard]] typename Api::Comm handle() const { return link().comm(); }

  template <class ExecT, NcclSumElement T>
    requires NcclApiFor<Api, ExecT>
  void all_reduce_sum(ExecT const& exec, View<T, 1, ExecT> x) const
  {
    auto const check = entered(exec, "moe::NcclCommunicator::all_reduce_sum");
    check.check.not_null("x", x);
    if (size() == 1 || x.empty()) { return; }
    auto const phase = collective_phase(exec, bytes_of_all_reduce(bytes<T>(x.size()), size()));
    call(check, "ncclAllReduce", [&](auto comm) {
      return Api::all_reduce_sum(
          x.data_handle(), x.data_handle(), n_of(x), nccl_type<T>(), comm, Api::stream_of(exec));
    });
  }

  template <class ExecT, TransferElement T>
    requires NcclApiFor<Api, ExecT>
  void all_gather(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    auto const check = entered(exec, "moe::NcclCommunicator::all_gather");
    check.all_gather(send, receive);
    if (size() == 1) { return copy(exec, receive.data_handle(), send.data_handle(), send.size()); }
    if (send.empty()) { return; }
    auto const phase = collective_phase(exec, bytes_to_others(bytes<T>(send.size()), size()));
    call(check, "ncclAllGather", [&](auto comm) {
      return Api::all_gather(send.data_handle(),
                             receive.data_handle(),
                             n_of(send) * sizeof(T),
                             NcclType::uint8,
                             comm,
                             Api::stream_of(exec));
    });
  }

  template <class ExecT, NcclSumElement T>
    requires NcclApiFor<Api, ExecT>
  void reduce_scatter_sum(ExecT const& exec,
                          std::type_identity_t<View<T const, 1, ExecT>> send,
                          View<T, 1, ExecT> receive) const
  {
    auto const check = entered(exec, "moe::NcclCommunicator::reduce_scatter_sum");
    check.reduce_scatter(send, receive);
    if (size() == 1) { return copy(exec, receive.data_handle(), send.data_handle(), send.size()); }
    if (receive.empty()) { return; }
    auto const phase = collective_phase(exec, bytes_to_others(bytes<T>(receive.size()), size()));
    call(check, "ncclReduceScatter", [&](auto comm) {
      return Api::reduce_scatter_sum(send.data_handle(),
                                     receive.data_handle(),
                                     n_of(receive),
                                     nccl_type<T>(),
                                     comm,
                                     Api::stream_of(exec));
    });
  }

  template <class ExecT, TransferElement T>
    requires NcclApiFor<Api, ExecT>
  void all_to_all(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    index_t const n  = receive.size() / size();
    auto const check = entered(exec, "moe::NcclCommunicator::all_to_all");
    check.all_to_all(send, receive);
    auto const block = [n](int r) { return Block{r * n, n}; };
    exchange(exec, check, send.data_handle(), block, receive.data_handle(), block);
  }

  // A pair of ranks with nothing to send between them calls nothing.
  template <class ExecT, TransferElement T>
    requires NcclApiFor<Api, ExecT>
  void all_to_all_v(ExecT const& exec,
                    std::type_identity_t<View<T const, 1, ExecT>> send,
                    RankBlocks const& send_blocks,
                    View<T, 1, ExecT> receive,
                    RankBlocks const& receive_blocks) const
  {
    auto const check = entered(exec, "moe::NcclCommunicator::all_to_all_v");
    check.all_to_all_v(send, send_blocks, receive, receive_blocks);
    auto const block_of = [](RankBlocks const& blocks) {
      return [&blocks](int r) {
        auto const i = static_cast<std::size_t>(r);
        return Block{blocks.offsets[i], blocks.counts[i]};
      };
    };
    check.check.equal("receive count of this rank",
                      block_of(receive_blocks)(rank()).count,
                      "send count of this rank",
                      block_of(send_blocks)(rank()).count);
    exchange(exec,
             check,
             send.data_handle(),
             block_of(send_blocks),
             receive.data_handle(),
             block_of(receive_blocks));
  }

  // What it makes is owned by the handles to it, also where this one is a Ref.
  [[nodiscard]] DerivedT split(int color, int key) const
  {
    char const* const operation = "moe::NcclCommunicator::split";
    link().repeat_failure();
    Check{operation, rank()}.at_least("color", color, 0);
    auto const slot = std::make_shared<typename Link::Slot>();
    typename Link::Place place;
    if (size() > 1) {
      link().begin(operation);
      link().settle(
          operation, "ncclCommSplit", Api::split(link().comm(), color, key, &slot->comm), slot);
      link().settle_group(operation, slot);
      place = link().place_in(slot, operation);
    }
    auto const group = std::make_shared<Link>(slot, link().options(), true);
    group->place     = place;
    return DerivedT(group);
  }

  // Where the Api makes windows. The end of one is a collective too, of all its ranks.
  template <class ExecT>
    requires NcclApiFor<Api, ExecT> && NcclApiWithWindows<Api, DerivedT, ExecT>
  [[nodiscard]] Window<ExecT> window(ExecT const& exec,
                                     std::size_t bytes,
                                     WindowOptions options = {}) const
  {
    link().repeat_failure();
    if (options.deadline.count() == 0) { options.deadline = link().options().deadline; }
    return Api::window(static_cast<DerivedT const&>(*this), exec, bytes, options);
  }

  // Waits until the work enqueued on the stream of `exec` is done, at most as long as the deadline.
  template <class ExecT>
    requires NcclApiFor<Api, ExecT>
  void wait(ExecT const& exec) const
  {
    char const* const operation = "moe::NcclCommunicator::wait";
    Api::refuse_to_wait(exec, operation);
    link().wait(operation, [&] { return Api::stream_done(exec); });
  }
  // Throws what NCCL has found out so far; waits for nothing.
  void check() const { link().check("moe::NcclCommunicator::check"); }

 protected:
  using Link = NcclLink<Api>;
  explicit NcclCollectives(std::shared_ptr<Link> made) : link_{std::move(made)} {}

 private:
  struct Block {
    index_t offset, count;
  };

  [[nodiscard]] Link& link() const
  {
    if (link_ == nullptr) {
      throw StateError("moe::NcclCommunicator", "the handle", "moved from", "made");
    }
    return *link_;
  }
  template <class ExecT>
  [[nodiscard]] CollectiveCheck entered(ExecT const& exec, char const* operation) const
  {
    link().repeat_failure();
    exec.enter(operation);
    return {{operation, rank()}, size()};
  }
  template <class F>
  void call(CollectiveCheck const& check, char const* name, F const& f) const
  {
    link().begin(check.check.operation);
    link().settle(check.check.operation, name, f(link().comm()));
  }
  // The own part is copied; send and receive may have blocks of any size.
  template <class ExecT, class T, class F, class G>
  void exchange(ExecT const& exec,
                CollectiveCheck const& check,
                T const* send,
                F const& send_block,
                T* receive,
                G const& receive_block) const
  {
    char const* const operation = check.check.operation;
    int const me                = rank();
    bool any                    = false;
    std::size_t sent            = 0;
    for (int r = 0; r < size(); ++r) {
      any = any || (r != me && (send_block(r).count > 0 || receive_block(r).count > 0));
      sent += r != me ? bytes<T>(send_block(r).count) : 0;
    }
    auto const phase = collective_phase(exec, sent);
    if (size() > 1) { link().begin(operation); }
    copy(exec,
         receive + receive_block(me).offset,
         send + send_block(me).offset,
         send_block(me).count);
    if (!any) { return; }
    link().group(operation, [&](auto const& post) {
      auto const comm   = link().comm();
      auto const stream = Api::stream_of(exec);
      for (int r = 0; r < size(); ++r) {
        if (r == me) { continue; }
        auto const to   = send_block(r);
        auto const from = receive_block(r);
        if (to.count > 0) {
          post("ncclSend",
               Api::send(send + to.offset, bytes<T>(to.count), NcclType::uint8, r, comm, stream));
        }
        if (from.count > 0) {
          post("ncclRecv",
               Api::recv(
                   receive + from.offset, bytes<T>(from.count), NcclType::uint8, r, comm, stream));
        }
      }
    });
  }
  template <class ExecT, class T>
  static void copy(ExecT const& exec, T* to, T const* from, index_t n)
  {
    if (n > 0) { exec.copy(to, from, bytes<T>(n)); }
  }
  template <class ViewT>
  static std::size_t n_of(ViewT const& view)
  {
    return static_cast<std::size_t>(view.size());
  }
  template <class T>
  static std::size_t bytes(index_t n)
  {
    return static_cast<std::size_t>(n) * sizeof(T);
  }

  std::shared_ptr<Link> link_;
};

}  // namespace moe::detail
