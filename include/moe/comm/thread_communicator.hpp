#pragma once
// Ranks that are threads of one process: the whole expert-parallel path on any machine.
// A ThreadWorld (thread_world.hpp) makes them.
#include <moe/comm/collective_phase.hpp>
#include <moe/comm/communicator.hpp>
#include <moe/comm/thread_call.hpp>
#include <moe/comm/thread_window.hpp>

namespace moe {

class ThreadWorld;

// A handle: copies are the same rank. One thread at a time uses it. Sums are taken in the order of
// ranks, in the element type (16-bit ones in float, rounded once; integers wrap around), so they
// repeat bit by bit, on every space.
//
// On Host a collective returns when this rank's result is complete. On Cuda (<moe/moe.cuh>) the
// threads meet when they call it, and what it does is in the order of their streams: no host waits
// for a device. Ranks may share a GPU or have one each, always the same. A collective cannot be
// captured into a graph. Staged bytes come from the rank's Cuda handle, and return when the last
// communicator of the group goes, from whichever thread that is: a resource of the caller's must
// outlive it.
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
    auto const phase =
        detail::collective_phase(exec, detail::bytes_of_all_reduce(bytes<T>(x.size()), size()));
    auto call =
        begin(exec, detail::Collective::all_reduce_sum, detail::sum_fingerprint<T>(x.size()));
    exec.copy(call.stage(bytes<T>(x.size())), x.data_handle(), bytes<T>(x.size()));
    call.meet();
    call.sum(0, x);
  }

  template <class ExecT, TransferElement T>
  void all_gather(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    index_t const n  = send.size();
    auto const check = entered(exec, detail::Collective::all_gather);
    check.all_gather(send, receive);
    auto const phase = detail::collective_phase(exec, detail::bytes_to_others(bytes<T>(n), size()));
    auto call        = begin(exec, detail::Collective::all_gather, fingerprint<T>(n));
    exec.copy(call.stage(bytes<T>(n)), send.data_handle(), bytes<T>(n));
    call.meet();
    for (int r = 0; r < size(); ++r) {
      call.read(receive.data_handle() + r * n, r, 0, bytes<T>(n));
    }
  }

  template <class ExecT, SumElement T>
  void reduce_scatter_sum(ExecT const& exec,
                          std::type_identity_t<View<T const, 1, ExecT>> send,
                          View<T, 1, ExecT> receive) const
  {
    index_t const n  = receive.size();
    auto const check = entered(exec, detail::Collective::reduce_scatter_sum);
    check.reduce_scatter(send, receive);
    auto const phase = detail::collective_phase(exec, detail::bytes_to_others(bytes<T>(n), size()));
    auto call = begin(exec, detail::Collective::reduce_scatter_sum, detail::sum_fingerprint<T>(n));
    exec.copy(call.stage(bytes<T>(send.size())), send.data_handle(), bytes<T>(send.size()));
    call.meet();
    call.sum(rank_ * n, receive);
  }

  template <class ExecT, TransferElement T>
  void all_to_all(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    index_t const n  = receive.size() / size();
    auto const check = entered(exec, detail::Collective::all_to_all);
    check.all_to_all(send, receive);
    auto const phase = detail::collective_phase(exec, detail::bytes_to_others(bytes<T>(n), size()));
    auto call        = begin(exec, detail::Collective::all_to_all, fingerprint<T>(n));
    exec.copy(call.stage(bytes<T>(send.size())), send.data_handle(), bytes<T>(send.size()));
    call.meet();
    for (int r = 0; r < size(); ++r) {
      call.read(receive.data_handle() + r * n, r, bytes<T>(rank_ * n), bytes<T>(n));
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
    check.all_to_all_v(send, send_blocks, receive, receive_blocks);
    auto const phase =
        detail::collective_phase(exec, detail::bytes_to_others(send_blocks, rank_, sizeof(T)));
    auto call              = begin(exec, detail::Collective::all_to_all_v, fingerprint<T>(0));
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
      auto const i       = static_cast<std::size_t>(r);
      index_t const from = call.of(r).staged_at[static_cast<std::size_t>(rank_)];
      call.read(receive.data_handle() + receive_blocks.offsets[i],
                r,
                bytes<T>(from),
                bytes<T>(receive_blocks.counts[i]));
    }
  }

  [[nodiscard]] ThreadCommunicator split(int color, int key) const
  {
    Check{detail::name_of(detail::Collective::split), world_rank()}.at_least("color", color, 0);
    detail::ThreadGroup::Call call{*group_, rank_, {.operation = detail::Collective::split}};
    call.mine().color = color;
    call.mine().key   = key;
    call.meet();
    return {std::exchange(call.mine().child, nullptr), call.mine().child_rank};
  }

  // On Host its memory comes from the world's resource, and goes with the last rank's window. On
  // Cuda (cuda/thread_window.cuh) it is the driver's, and goes when all ranks have let it go and
  // the next window of the group is made, or with the group.
  template <class ExecT>
    requires detail::HasThreadWindow<ExecT>
  [[nodiscard]] Window<ExecT> window(ExecT const& exec,
                                     std::size_t bytes,
                                     WindowOptions const& options = {}) const
  {
    return detail::ThreadWindow<ExecT>::made(exec, group_, rank_, bytes, options);
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
    exec.enter(detail::name_of(c));
    Check const check{detail::name_of(c), world_rank()};
    detail::ThreadCall<ExecT>::refuse(exec, check);
    return {check, size()};
  }
  template <class ExecT>
  [[nodiscard]] detail::ThreadCall<ExecT> begin(ExecT const& exec,
                                                detail::Collective c,
                                                detail::Fingerprint fingerprint) const
  {
    fingerprint.operation = c;
    fingerprint.space     = detail::ThreadCall<ExecT>::space;
    return {exec, *group_, rank_, fingerprint};
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
static_assert(ExchangeCommunicator<ThreadCommunicator, Host, float> &&
              HasWindow<ThreadCommunicator, Host>);

}  // namespace moe
