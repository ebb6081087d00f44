#pragma once
// Contract: how rows travel between the ranks, to the experts and back.
#include <moe/dispatch/exchange_plan.hpp>

namespace moe {

//   to_experts(exec, comm, plan, width, send, receive)   slots' elements -> elements as they arrive
//   to_tokens(exec, comm, plan, width, send, receive)    and back
// A row is `width` elements of `send` and `receive`; rows of `send` that no rank is to get are left
// out. Collective.
template <class X, class CommT, class T, class ExecT>
concept Exchange = requires(X const x,
                            ExecT const exec,
                            CommT const comm,
                            ExchangePlan<ExecT> const plan,
                            index_t width,
                            View<T const, 1, ExecT> send,
                            View<T, 1, ExecT> receive) {
  { x.to_experts(exec, comm, plan, width, send, receive) } -> std::same_as<void>;
  { x.to_tokens(exec, comm, plan, width, send, receive) } -> std::same_as<void>;
};

// Every rank to every rank, one message each.
struct FlatExchange {
  template <class ExecT, class CommT, class T>
  void to_experts(ExecT const& exec,
                  CommT const& comm,
                  ExchangePlan<ExecT> const& plan,
                  index_t width,
                  std::type_identity_t<View<T const, 1, ExecT>> send,
                  View<T, 1, ExecT> receive) const
  {
    travel(exec, comm, plan.sent_blocks(), send, plan.received_blocks(), receive, width);
  }
  template <class ExecT, class CommT, class T>
  void to_tokens(ExecT const& exec,
                 CommT const& comm,
                 ExchangePlan<ExecT> const& plan,
                 index_t width,
                 std::type_identity_t<View<T const, 1, ExecT>> send,
                 View<T, 1, ExecT> receive) const
  {
    travel(exec, comm, plan.received_blocks(), send, plan.sent_blocks(), receive, width);
  }

 private:
  template <class ExecT, class CommT, class T>
  static void travel(ExecT const& exec,
                     CommT const& comm,
                     RankBlocks const& from,
                     View<T const, 1, ExecT> send,
                     RankBlocks const& to,
                     View<T, 1, ExecT> receive,
                     index_t width)
  {
    auto const scaled = [width](std::span<index_t const> rows) {
      std::vector<index_t> elements(rows.begin(), rows.end());
      for (index_t& n : elements) {
        n *= width;
      }
      return elements;
    };
    auto const sent = scaled(from.counts), sent_at = scaled(from.offsets);
    auto const received = scaled(to.counts), received_at = scaled(to.offsets);
    comm.all_to_all_v(
        exec, send, RankBlocks{sent, sent_at}, receive, RankBlocks{received, received_at});
  }
};

}  // namespace moe
