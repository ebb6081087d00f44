#pragma once
// Two levels: within a host first, to the rank that has the destination's number there, then across
// hosts among ranks of the same number. A rank sends one message to each of H hosts instead of one
// to each of their G ranks, each G times as large (Tutel's 2DH, Hwang et al. 2023, section 3.3).
#include <moe/dispatch/exchange.hpp>

namespace moe {

// Ranks host * G + number, G at every host. Rows arrive in the order of ranks, as with
// FlatExchange.
template <class CommT>
class HierarchicalExchange {
  static_assert(std::copy_constructible<CommT> && HasSplit<CommT>,
                "moe::HierarchicalExchange: a communicator that is a handle and has split");

 public:
  // Collective. P is a multiple of `ranks_per_host` = G.
  HierarchicalExchange(CommT const& comm, int ranks_per_host)
      : per_host_{checked(comm, ranks_per_host)},
        within_{comm.split(comm.rank() / per_host_, comm.rank())},
        across_{comm.split(comm.rank() % per_host_, comm.rank())}
  {
  }

  // How many rows take each step. This rank passes on what comes from its host: it has these rows
  // by (number, host) as they come and by (host, number) as they go on.
  struct Route {
    std::vector<index_t> to_host;     // (G) rows that leave for each rank of this host
    std::vector<index_t> from_host;   // (G) that come from each of them, for all hosts
    std::vector<index_t> passing;     // (G, H) of these, to each host
    std::vector<index_t> to_hosts;    // (H) rows that go on to each host
    std::vector<index_t> from_hosts;  // (H) that come from each
    index_t in_the_middle = 0;
  };

  template <class ExecT>
  [[nodiscard]] Route make_route(ExecT const& exec, CommT const&, RowBlocks const& blocks) const
  {
    auto const G = static_cast<std::size_t>(per_host_), H = hosts();
    Route route;
    std::vector<index_t> leaving(G * H);  // (G, H) by the number of who gets them first
    for (std::size_t g = 0; g < G; ++g) {
      for (std::size_t h = 0; h < H; ++h) {
        leaving[g * H + h] = blocks.sent[h * G + g];
      }
    }
    Tensor<index_t, 1, ExecT> send(exec, leaving.size()), receive(exec, leaving.size());
    std::size_t const bytes = leaving.size() * sizeof(index_t);
    exec.copy_from_host(send.view().data_handle(), leaving.data(), bytes);
    within_.all_to_all(exec, send.const_view(), receive.view());
    detail::wait_for_ranks(exec, within_);
    route.passing.resize(leaving.size());
    exec.copy_to_host(route.passing.data(), receive.const_view().data_handle(), bytes);

    route.to_host.assign(G, 0);
    route.from_host.assign(G, 0);
    route.to_hosts.assign(H, 0);
    route.from_hosts.assign(H, 0);
    for (std::size_t g = 0; g < G; ++g) {
      for (std::size_t h = 0; h < H; ++h) {
        index_t const passing = route.passing[g * H + h];
        route.to_host[g] += leaving[g * H + h];
        route.from_host[g] += passing;
        route.to_hosts[h] += passing;
        route.from_hosts[h] += blocks.received[h * G + g];
        route.in_the_middle += passing;
      }
    }
    return route;
  }

  template <class ExecT, class T>
  void to_experts(ExecT const& exec,
                  CommT const&,
                  RowBlocks const& blocks,
                  Route const& route,
                  index_t width,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    Stage<T, ExecT> stage(exec, blocks, route, width);
    by_number(blocks, width, [&](index_t slot, index_t packed, std::size_t n) {
      exec.copy(
          stage.packed.view().data_handle() + packed, send.data_handle() + slot, n * sizeof(T));
    });
    go(exec, within_, route.to_host, stage.packed, route.from_host, stage.came.view(), width);
    by_host(route, width, [&](index_t came, index_t goes, std::size_t n) {
      exec.copy(stage.goes.view().data_handle() + goes,
                stage.came.view().data_handle() + came,
                n * sizeof(T));
    });
    from_hosts(exec, blocks, route, width, stage.goes, receive);
  }

  template <class ExecT, class T>
  void to_tokens(ExecT const& exec,
                 CommT const&,
                 RowBlocks const& blocks,
                 Route const& route,
                 index_t width,
                 std::type_identity_t<View<T const, 1, ExecT>> send,
                 View<T, 1, ExecT> receive) const
  {
    Stage<T, ExecT> stage(exec, blocks, route, width);
    go(exec, across_, route.from_hosts, send, route.to_hosts, stage.goes.view(), width);
    by_host(route, width, [&](index_t came, index_t goes, std::size_t n) {
      exec.copy(stage.came.view().data_handle() + came,
                stage.goes.view().data_handle() + goes,
                n * sizeof(T));
    });
    go(exec, within_, route.from_host, stage.came, route.to_host, stage.packed.view(), width);
    by_number(blocks, width, [&](index_t slot, index_t packed, std::size_t n) {
      exec.copy(
          receive.data_handle() + slot, stage.packed.view().data_handle() + packed, n * sizeof(T));
    });
  }

 private:
  // Rows at home by (number, host), and in the middle as they came and as they go on.
  template <class T, class ExecT>
  struct Stage {
    Stage(ExecT const& exec, RowBlocks const& blocks, Route const& route, index_t width)
        : packed(exec, blocks.rows_sent() * width),
          came(exec, route.in_the_middle * width),
          goes(exec, route.in_the_middle * width)
    {
    }
    Tensor<T, 1, ExecT> packed, came, goes;
  };

  static int checked(CommT const& comm, int per_host)
  {
    Check const check{"moe::HierarchicalExchange", comm.rank()};
    check.at_least("ranks_per_host", per_host, 1);
    check.equal("ranks modulo ranks_per_host", comm.size() % per_host, "no remainder", 0);
    return per_host;
  }
  [[nodiscard]] std::size_t hosts() const { return static_cast<std::size_t>(across_.size()); }

  // move(first element in slots, first element packed, elements), in the order (number, host)
  template <class Move>
  void by_number(RowBlocks const& blocks, index_t width, Move move) const
  {
    auto const G   = static_cast<std::size_t>(per_host_);
    index_t packed = 0;
    for (std::size_t g = 0; g < G; ++g) {
      for (std::size_t h = 0; h < hosts(); ++h) {
        std::size_t const r = h * G + g;
        move(blocks.sent_at[r] * width, packed, static_cast<std::size_t>(blocks.sent[r] * width));
        packed += blocks.sent[r] * width;
      }
    }
  }
  // move(first element as it came, first element as it goes on, elements)
  template <class Move>
  void by_host(Route const& route, index_t width, Move move) const
  {
    auto const G = static_cast<std::size_t>(per_host_), H = hosts();
    std::vector<index_t> goes;
    detail::lay_out(route.to_hosts, goes);
    index_t came = 0;
    for (std::size_t g = 0; g < G; ++g) {
      for (std::size_t h = 0; h < H; ++h) {
        index_t const n = route.passing[g * H + h];
        move(came * width, goes[h] * width, static_cast<std::size_t>(n * width));
        came += n;
        goes[h] += n;
      }
    }
  }
  // Across hosts. What comes lies in the order of ranks; where the blocks of `receive` are apart
  // (chunks of larger ones) it comes into a buffer of its own first.
  template <class ExecT, class T>
  void from_hosts(ExecT const& exec,
                  RowBlocks const& blocks,
                  Route const& route,
                  index_t width,
                  Tensor<T, 1, ExecT> const& goes,
                  View<T, 1, ExecT> receive) const
  {
    std::vector<index_t> packed_at;
    index_t const rows = detail::lay_out(blocks.received, packed_at);
    if (packed_at == blocks.received_at) {
      return go(exec, across_, route.to_hosts, goes, route.from_hosts, receive, width);
    }
    Tensor<T, 1, ExecT> packed(exec, rows * width);
    go(exec, across_, route.to_hosts, goes, route.from_hosts, packed.view(), width);
    for (std::size_t r = 0; r < packed_at.size(); ++r) {
      exec.copy(receive.data_handle() + blocks.received_at[r] * width,
                packed.const_view().data_handle() + packed_at[r] * width,
                static_cast<std::size_t>(blocks.received[r] * width) * sizeof(T));
    }
  }
  // Blocks one after the other in both buffers.
  template <class ExecT, class T>
  static void go(ExecT const& exec,
                 CommT const& comm,
                 std::vector<index_t> const& sent,
                 View<T const, 1, ExecT> send,
                 std::vector<index_t> const& received,
                 View<T, 1, ExecT> receive,
                 index_t width)
  {
    std::vector<index_t> sent_at, received_at;
    detail::lay_out(sent, sent_at);
    detail::lay_out(received, received_at);
    detail::travel(exec,
                   comm,
                   RankBlocks{sent, sent_at},
                   send,
                   RankBlocks{received, received_at},
                   receive,
                   width);
  }
  template <class ExecT, class T>
  static void go(ExecT const& exec,
                 CommT const& comm,
                 std::vector<index_t> const& sent,
                 Tensor<T, 1, ExecT> const& send,
                 std::vector<index_t> const& received,
                 View<T, 1, ExecT> receive,
                 index_t width)
  {
    go(exec, comm, sent, send.const_view(), received, receive, width);
  }

  int per_host_;           // G
  CommT within_, across_;  // of this host; of this number
};

}  // namespace moe
