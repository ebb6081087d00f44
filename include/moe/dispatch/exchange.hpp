#pragma once
// Contract: how rows travel between the ranks, to the experts and back.
#include <concepts>

#include <moe/dispatch/exchange_plan.hpp>

namespace moe {

//   Route                                   what it works out once, forward and backward
//   make_route(exec, comm, blocks)            collective; may wait for the device
//   to_experts(exec, comm, blocks, route, width, send, receive)   rows sent -> rows received
//   to_tokens(exec, comm, blocks, route, width, send, receive)    and back
// A row is `width` elements of `send` and `receive`. Every row arrives as it was sent, in the order
// that the blocks say, so exchanges differ in messages and not in bits.
template <class X, class CommT, class T, class ExecT>
concept Exchange = requires(X const x,
                            ExecT const exec,
                            CommT const comm,
                            RowBlocks const blocks,
                            typename X::Route const route,
                            index_t width,
                            View<T const, 1, ExecT> send,
                            View<T, 1, ExecT> receive) {
  { x.make_route(exec, comm, blocks) } -> std::same_as<typename X::Route>;
  { x.to_experts(exec, comm, blocks, route, width, send, receive) } -> std::same_as<void>;
  { x.to_tokens(exec, comm, blocks, route, width, send, receive) } -> std::same_as<void>;
};

namespace detail {

inline std::vector<index_t> times(std::span<index_t const> rows, index_t width)
{
  std::vector<index_t> elements(rows.begin(), rows.end());
  for (index_t& n : elements) {
    n *= width;
  }
  return elements;
}

// all_to_all_v of rows
template <class ExecT, class CommT, class T>
void travel(ExecT const& exec,
            CommT const& comm,
            RankBlocks const& from,
            std::type_identity_t<View<T const, 1, ExecT>> send,
            RankBlocks const& to,
            View<T, 1, ExecT> receive,
            index_t width)
{
  auto const sent = times(from.counts, width), sent_at = times(from.offsets, width);
  auto const received = times(to.counts, width), received_at = times(to.offsets, width);
  comm.all_to_all_v(
      exec, send, RankBlocks{sent, sent_at}, receive, RankBlocks{received, received_at});
}

}  // namespace detail

// Every rank to every rank, one message each.
struct FlatExchange {
  struct Route {};

  template <class ExecT, class CommT>
  [[nodiscard]] Route make_route(ExecT const&, CommT const&, RowBlocks const&) const
  {
    return {};
  }
  template <class ExecT, class CommT, class T>
  void to_experts(ExecT const& exec,
                  CommT const& comm,
                  RowBlocks const& blocks,
                  Route const&,
                  index_t width,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    detail::travel(exec, comm, blocks.out(), send, blocks.in(), receive, width);
  }
  template <class ExecT, class CommT, class T>
  void to_tokens(ExecT const& exec,
                 CommT const& comm,
                 RowBlocks const& blocks,
                 Route const&,
                 index_t width,
                 std::type_identity_t<View<T const, 1, ExecT>> send,
                 View<T, 1, ExecT> receive) const
  {
    detail::travel(exec, comm, blocks.in(), send, blocks.out(), receive, width);
  }
};

}  // namespace moe
