#pragma once
// Ranks that are threads of one process: the whole expert-parallel path on any machine.
// A ThreadWorld (thread_world.hpp) makes them.
#include <moe/comm/communicator.hpp>
#include <moe/comm/thread_group.hpp>
#include <moe/comm/thread_sum.hpp>
#include <moe/exec/host.hpp>

namespace moe {

class ThreadWorld;

// A handle: copies are the same rank. One thread at a time uses it; its collectives return when
// this rank's result is complete. Sums are taken in the order of ranks, in the element type (16-bit
// ones in float, rounded once; integers wrap around), so they repeat bit by bit.
//
// Host memory alone so far. Another space needs staged bytes of its own, and a mark of its stream
// in each Post, on which readers wait instead of the host.
class ThreadCommunicator {
 public:
  [[nodiscard]] int rank() const { return rank_; }  // in this group
  [[nodiscard]] int size() const { return group_->size(); }
  [[nodiscard]] int world_rank() const { return group_->world_rank(rank_); }

  template <class ExecT, SumElement T>
  void all_reduce_sum(ExecT const& exec, View<T, 1, ExecT> x) const
  {
    auto const check = entered(exec, detail::Collective::all_reduce_sum);
    check.check.not_null("x", x);
    auto call = begin(detail::Collective::all_reduce_sum, detail::sum_fingerprint<T>(x.size()));
    exec.copy(call.stage(bytes<T>(x.size())), x.data_handle(), bytes<T>(x.size()));
    call.meet();
    detail::sum_in_order(call, 0, x);
  }

  template <class ExecT, TransferElement T>
  void all_gather(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    index_t const n  = send.size();
    auto const check = entered(exec, detail::Collective::all_gather);
    check.buffers(send, receive);
    check.parts("receive", receive.size(), "send", n);
    auto call = begin(detail::Collective::all_gather, fingerprint<T>(n));
    exec.copy(call.stage(bytes<T>(n)), send.data_handle(), bytes<T>(n));
    call.meet();
    for (int r = 0; r < size(); ++r) {
      exec.copy(receive.data_handle() + r * n, call.of(r).staged.data(), bytes<T>(n));
    }
  }

  template <class ExecT, SumElement T>
  void reduce_scatter_sum(ExecT const& exec,
                          std::type_identity_t<View<T const, 1, ExecT>> send,
                          View<T, 1, ExecT> receive) const
  {
    index_t const n  = receive.size();
    auto const check = entered(exec, detail::Collective::reduce_scatter_sum);
    check.buffers(send, receive);
    check.parts("send", send.size(), "receive", n);
    auto call = begin(detail::Collective::reduce_scatter_sum, detail::sum_fingerprint<T>(n));
    exec.copy(call.stage(bytes<T>(send.size())), send.data_handle(), bytes<T>(send.size()));
    call.meet();
    detail::sum_in_order(call, rank_ * n, receive);
  }

  template <class ExecT, TransferElement T>
  void all_to_all(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    index_t const n  = receive.size() / size();
    auto const check = entered(exec, detail::Collective::all_to_all);
    check.buffers(send, receive);
    check.check.equal("receive extent", receive.size(), "send extent", send.size());
    check.parts("receive", receive.size(), "block", n);
    auto call = begin(detail::Collective::all_to_all, fingerprint<T>(n));
    exec.copy(call.stage(bytes<T>(send.size())), send.data_handle(), bytes<T>(send.size()));
    call.meet();
    for (int r = 0; r < size(); ++r) {
      exec.copy(receive.data_handle() + r * n,
                call.of(r).staged.data() + bytes<T>(rank_ * n),
                bytes<T>(n));
    }
  }

  template <class ExecT, TransferElement T>
  void all_to_all_v(ExecT const& exec,
                    std::type_identity_t<View<T const, 1, ExecT>> send,
                    RankBlocks const& send_blocks,
                    View<T, 1, ExecT> receive,
                    RankBlocks const& receive_blocks) const
  {
    auto const check = entered(exec, detail::Collective::all_to_all_v);
    check.buffers(send, receive);
    check.blocks("send", send_blocks, send.size());
    check.blocks("receive", receive_blocks, receive.size());
    check.blocks_apart(receive_blocks);
    auto call              = begin(detail::Collective::all_to_all_v, fingerprint<T>(0));
    index_t const sent     = call.mine().set_counts(send_blocks, receive_blocks);
    std::byte* const stage = call.stage(bytes<T>(sent));
    for (int r = 0; r < size(); ++r) {
      auto const i = static_cast<std::size_t>(r);
      exec.copy(stage + bytes<T>(call.mine().staged_at[i]),
                send.data_handle() + send_blocks.offsets[i],
                bytes<T>(send_blocks.counts[i]));
    }
    call.meet();
    for (int r = 0; r < size(); ++r) {
      auto const i     = static_cast<std::size_t>(r);
      auto const& peer = call.of(r);
      exec.copy(receive.data_handle() + receive_blocks.offsets[i],
                peer.staged.data() + bytes<T>(peer.staged_at[static_cast<std::size_t>(rank_)]),
                bytes<T>(receive_blocks.counts[i]));
    }
  }

  [[nodiscard]] ThreadCommunicator split(int color, int key) const
  {
    Check{detail::name_of(detail::Collective::split), world_rank()}.at_least("color", color, 0);
    auto call         = begin(detail::Collective::split, {});
    call.mine().color = color;
    call.mine().key   = key;
    call.meet();
    return {std::exchange(call.mine().child, nullptr), call.mine().child_rank};
  }

  // This rank ends, because of `cause` where it is known: ends all ranks of the world, also those
  // that wait in another group of it. ThreadWorld::run and RankGuard call it.
  void abort(std::exception_ptr const& cause = nullptr) const noexcept
  {
    group_->state().abort(world_rank(), cause);
  }

 private:
  friend class ThreadWorld;
  ThreadCommunicator(std::shared_ptr<detail::ThreadGroup> group, int rank)
      : group_{std::move(group)}, rank_{rank}
  {
  }

  template <class ExecT>
  [[nodiscard]] detail::CollectiveCheck entered(ExecT const& exec, detail::Collective c) const
  {
    static_assert(std::same_as<ExecT, Host>,
                  "moe::ThreadCommunicator: works on moe::Host; other spaces have none yet");
    exec.enter(detail::name_of(c));
    return {{detail::name_of(c), world_rank()}, size()};
  }
  [[nodiscard]] detail::ThreadGroup::Call begin(detail::Collective c,
                                                detail::Fingerprint fingerprint) const
  {
    fingerprint.operation = c;
    return {*group_, rank_, fingerprint};
  }
  template <class T>
  [[nodiscard]] static detail::Fingerprint fingerprint(index_t count)
  {
    return {.element_bytes = sizeof(T), .count = count};
  }
  template <class T>
  [[nodiscard]] static std::size_t bytes(index_t n)
  {
    return static_cast<std::size_t>(n) * sizeof(T);
  }

  std::shared_ptr<detail::ThreadGroup> group_;
  int rank_;
};
static_assert(ExchangeCommunicator<ThreadCommunicator, Host, float>);

}  // namespace moe
