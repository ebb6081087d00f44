#pragma once
// One rank of a world that exists only in a cost model: what a layer would send among 64 to 4,096
// ranks, and how long that would take, on one machine without any of the others.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <moe/comm/collective_phase.hpp>
#include <moe/comm/communicator.hpp>
#include <moe/comm/cost_model.hpp>
#include <moe/comm/simulated_traffic.hpp>

namespace moe {

// Nothing is communicated. Every peer is a copy of this rank: it calls the same collectives with
// the same buffers. So, by the contract of each collective, on P ranks of which this is rank r:
//   all_reduce_sum      x -> P x (multiplied once, in the accumulator of the element type)
//   all_gather          every part of receive is send
//   reduce_scatter_sum  receive is P times part r of send
//   all_to_all          every part of receive is part r of send
//   all_to_all_v        every block of receive is block r of send. Counts of real routing do not
//                       agree with that (block q of receive may be longer or shorter): the block is
//                       repeated from its start, or cut, and zeros where it is empty.
//   split               all give the color and key of this rank: the same ranks in the same order.
//                       Groups by a rule of the rank: split_by, host_group, across_group.
// It has no window: which rows a peer would store here, and where, only that peer's routing says.
// Values are therefore plausible (counts are counts, rows are rows), never those of a real world.
//
// What is counted is this rank's own: messages and bytes that it sends, by tier; of two unequal
// directions the larger one's seconds. all_gather and reduce_scatter_sum are taken as direct (a
// message to each peer), all_reduce_sum as the one after the other with parts of n / P elements
// (Thakur, Rabenseifner and Gropp 2005). Tiers work at the same time, as in flat_all_to_all.
//
// A handle: copies, and groups made from it, are the same rank and share the traffic. One thread at
// a time uses it.
class SimulatedCommunicator {
 public:
  SimulatedCommunicator(Cluster const& cluster, int ranks, int rank)
      : state_{std::make_shared<State>(State{cluster, rank, {}})}
  {
    Check const check{"moe::SimulatedCommunicator"};
    detail::shape_of(check.operation, cluster, ranks);
    check.at_least("rank", rank, 0);
    check.at_most("rank", rank, "ranks - 1", ranks - 1);
    std::vector<int> all;
    for (int r = 0; r < ranks; ++r) {
      all.push_back(r);
    }
    set_members(std::move(all));
  }

  [[nodiscard]] int rank() const { return rank_; }  // in this group
  [[nodiscard]] int size() const { return static_cast<int>(members_->size()); }
  [[nodiscard]] int world_rank() const { return state_->world_rank; }
  [[nodiscard]] Cluster const& cluster() const { return state_->cluster; }

  [[nodiscard]] SimulatedTraffic const& traffic() const { return state_->traffic; }
  void reset_traffic() const { state_->traffic = {}; }

  template <class ExecT, SumElement T>
  void all_reduce_sum(ExecT const& exec, View<T, 1, ExecT> x) const
  {
    auto const check = entered(exec, "moe::SimulatedCommunicator::all_reduce_sum");
    check.check.not_null("x", x);
    auto const phase =
        detail::collective_phase(exec, detail::bytes_of_all_reduce(bytes<T>(x.size()), size()));
    finish_even((bytes<T>(x.size()) + members_->size() - 1) / members_->size(), 2);
    times_ranks(exec, x);
  }

  template <class ExecT, TransferElement T>
  void all_gather(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    index_t const n  = send.size();
    auto const check = entered(exec, "moe::SimulatedCommunicator::all_gather");
    check.all_gather(send, receive);
    auto const phase = detail::collective_phase(exec, detail::bytes_to_others(bytes<T>(n), size()));
    finish_even(bytes<T>(n));
    for (int r = 0; r < size(); ++r) {
      exec.copy(receive.data_handle() + r * n, send.data_handle(), bytes<T>(n));
    }
  }

  template <class ExecT, SumElement T>
  void reduce_scatter_sum(ExecT const& exec,
                          std::type_identity_t<View<T const, 1, ExecT>> send,
                          View<T, 1, ExecT> receive) const
  {
    index_t const n  = receive.size();
    auto const check = entered(exec, "moe::SimulatedCommunicator::reduce_scatter_sum");
    check.reduce_scatter(send, receive);
    auto const phase = detail::collective_phase(exec, detail::bytes_to_others(bytes<T>(n), size()));
    finish_even(bytes<T>(n));
    exec.copy(receive.data_handle(), send.data_handle() + rank_ * n, bytes<T>(n));
    times_ranks(exec, receive);
  }

  template <class ExecT, TransferElement T>
  void all_to_all(ExecT const& exec,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    index_t const n  = receive.size() / size();
    auto const check = entered(exec, "moe::SimulatedCommunicator::all_to_all");
    check.all_to_all(send, receive);
    auto const phase = detail::collective_phase(exec, detail::bytes_to_others(bytes<T>(n), size()));
    finish_even(bytes<T>(n));
    for (int r = 0; r < size(); ++r) {
      exec.copy(receive.data_handle() + r * n, send.data_handle() + rank_ * n, bytes<T>(n));
    }
  }

  template <class ExecT, TransferElement T>
  void all_to_all_v(ExecT const& exec,
                    std::type_identity_t<View<T const, 1, ExecT>> send,
                    RankBlocks const& send_blocks,
                    View<T, 1, ExecT> receive,
                    RankBlocks const& receive_blocks) const
  {
    auto const check = entered(exec, "moe::SimulatedCommunicator::all_to_all_v");
    check.all_to_all_v(send, send_blocks, receive, receive_blocks);
    auto const phase =
        detail::collective_phase(exec, detail::bytes_to_others(send_blocks, rank_, sizeof(T)));
    Sent sent;
    for_each_peer([&](bool in_host, std::size_t r) {
      sent.add(in_host, bytes<T>(send_blocks.counts[r]), bytes<T>(receive_blocks.counts[r]));
    });
    finish(sent, 1);
    auto const me       = static_cast<std::size_t>(rank_);
    index_t const block = send_blocks.counts[me];
    T const* const from = send.data_handle() + send_blocks.offsets[me];
    for (std::size_t r = 0; r < members_->size(); ++r) {
      T* const to         = receive.data_handle() + receive_blocks.offsets[r];
      index_t const count = receive_blocks.counts[r];
      if (block == 0) {
        exec.zero(to, bytes<T>(count));
        continue;
      }
      for (index_t i = 0; i < count; i += block) {
        exec.copy(to + i, from, bytes<T>(std::min(block, count - i)));
      }
    }
  }

  [[nodiscard]] SimulatedCommunicator split(int color, int) const
  {
    Check{"moe::SimulatedCommunicator::split", world_rank()}.at_least("color", color, 0);
    ++state_->traffic.collectives;
    return *this;
  }

  // Among the ranks r, numbered as in this group, that have the color_of(r) of this one.
  template <class ColorOf>
  [[nodiscard]] SimulatedCommunicator split_by(ColorOf const& color_of) const
  {
    auto const mine = color_of(rank_);
    std::vector<int> members;
    for (int r = 0; r < size(); ++r) {
      if (color_of(r) == mine) { members.push_back((*members_)[static_cast<std::size_t>(r)]); }
    }
    ++state_->traffic.collectives;
    SimulatedCommunicator group = *this;
    group.set_members(std::move(members));
    return group;
  }
  // The ranks of this host, and one rank of each host: those of the same index within theirs.
  [[nodiscard]] SimulatedCommunicator host_group() const
  {
    return split_by([&](int r) { return host((*members_)[static_cast<std::size_t>(r)]); });
  }
  [[nodiscard]] SimulatedCommunicator across_group() const
  {
    return split_by([&](int r) {
      return (*members_)[static_cast<std::size_t>(r)] % state_->cluster.ranks_per_host;
    });
  }

 private:
  struct State {
    Cluster cluster;
    int world_rank;
    SimulatedTraffic traffic;
  };

  // Of this rank in one phase.
  struct Sent {
    struct Tier {
      std::uint64_t messages = 0, sent = 0, received = 0;
    };
    Tier in_host, across_hosts;

    void add(bool to_this_host, std::uint64_t sent_bytes, std::uint64_t received_bytes)
    {
      Tier& tier = to_this_host ? in_host : across_hosts;
      ++tier.messages;
      tier.sent += sent_bytes;
      tier.received += received_bytes;
    }
  };

  void set_members(std::vector<int> members)
  {
    rank_    = static_cast<int>(std::find(members.begin(), members.end(), state_->world_rank) -
                             members.begin());
    members_ = std::make_shared<std::vector<int> const>(std::move(members));
  }
  [[nodiscard]] int host(int world_rank) const { return world_rank / cluster().ranks_per_host; }

  // f(is it on this host, its rank here) for all but this rank.
  template <class F>
  void for_each_peer(F const& f) const
  {
    int const here = host(world_rank());
    for (std::size_t r = 0; r < members_->size(); ++r) {
      if (static_cast<int>(r) != rank_) { f(host((*members_)[r]) == here, r); }
    }
  }
  void finish_even(std::size_t block_bytes, unsigned phases = 1) const
  {
    Sent sent;
    for_each_peer([&](bool in_host, std::size_t) { sent.add(in_host, block_bytes, block_bytes); });
    finish(sent, phases);
  }
  void finish(Sent const& sent, unsigned phases) const
  {
    auto const seconds = [](LinkTier const& link, Sent::Tier const& tier) {
      return link.seconds(static_cast<double>(tier.messages),
                          static_cast<double>(std::max(tier.sent, tier.received)));
    };
    auto& traffic = state_->traffic;
    ++traffic.collectives;
    traffic.in_host_messages += phases * sent.in_host.messages;
    traffic.across_hosts_messages += phases * sent.across_hosts.messages;
    traffic.in_host_bytes += phases * sent.in_host.sent;
    traffic.across_hosts_bytes += phases * sent.across_hosts.sent;
    traffic.seconds += phases * std::max(seconds(cluster().in_host, sent.in_host),
                                         seconds(cluster().across_hosts, sent.across_hosts));
  }

  template <class ExecT>
  [[nodiscard]] detail::CollectiveCheck entered(ExecT const& exec, char const* operation) const
  {
    exec.enter(operation);
    return {{operation, world_rank()}, size()};
  }
  template <class ExecT, class T>
  void times_ranks(ExecT const& exec, View<T, 1, ExecT> x) const
  {
    using Times = detail::TimesRanks<T, ExecT>;
    exec.for_each_row((x.size() + Times::row - 1) / Times::row, Times{x, size()});
  }
  template <class T>
  [[nodiscard]] static std::size_t bytes(index_t n)
  {
    return static_cast<std::size_t>(n) * sizeof(T);
  }

  std::shared_ptr<State> state_;
  std::shared_ptr<std::vector<int> const> members_;  // (P), world ranks, ascending
  int rank_ = 0;
};
static_assert(HasRank<SimulatedCommunicator> && HasSplit<SimulatedCommunicator>);

}  // namespace moe
