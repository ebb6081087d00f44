#pragma once
// Contract: the ranks that share one layer. Counts, losses and capacity are taken over all of them.
#include <concepts>
#include <cstddef>

#include <moe/core/view.hpp>

namespace moe {

template <class C>
concept HasRank = requires(C const c) {
  { c.rank() } -> std::convertible_to<int>;
  { c.size() } -> std::convertible_to<int>;
};

// x = sum over ranks of x, in place, in the stream order of `exec`.
template <class C, class ExecT, class T>
concept HasAllReduce = requires(C const c, ExecT const exec, View<T, 1, ExecT> x) {
  { c.all_reduce_sum(exec, x) } -> std::same_as<void>;
};

template <class C, class ExecT>
concept Communicator = HasRank<C> && HasAllReduce<C, ExecT, Id> && HasAllReduce<C, ExecT, float>;

// A world of one: every collective is already done.
struct SelfCommunicator {
  static constexpr int rank() { return 0; }
  static constexpr int size() { return 1; }
  template <class ExecT, class T>
  void all_reduce_sum(ExecT const&, View<T, 1, ExecT>) const
  {
  }
};
static_assert(HasRank<SelfCommunicator>);

}  // namespace moe
