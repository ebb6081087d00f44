#pragma once
// Who shares C slots: one expert has its own, or the experts of one rank have them together.
#include <concepts>
#include <type_traits>

#include <moe/core/tensor.hpp>
#include <moe/dispatch/expert_partition.hpp>

namespace moe {

// A policy whose slots the experts of a rank share: shared_by(ranks) is how many ranks there are,
// where the communicator has so many.
template <class P>
concept SharesSlots = requires(P const p, index_t ranks) {
  { p.shared_by(ranks) } -> std::same_as<index_t>;
};

// A policy that counts C from this rank's tokens, which claim slots among themselves.
template <class P>
concept CountsPerRank = P::per_rank;

namespace detail {

//   count                 groups; what goes nowhere is of one more, the last
//   group_of(e)           of expert e, or of E: nowhere
//   taker(g, expert, a)   the expert that takes assignment a, which group g serves
struct SlotsOfExpert {
  Id experts;  // E
  Id count = experts;

  [[nodiscard]] MOE_HOST_DEVICE Id group_of(Id e) const { return e; }
  template <class ViewT>
  [[nodiscard]] MOE_HOST_DEVICE index_t taker(index_t g, ViewT const&, index_t) const
  {
    return g;
  }
};

struct SlotsOfRank {
  Id experts;  // E
  Id count;    // P

  [[nodiscard]] MOE_HOST_DEVICE Id group_of(Id e) const
  {
    return e == experts ? count : static_cast<Id>(rank_of_expert(experts, count, e));
  }
  template <class ViewT>
  [[nodiscard]] MOE_HOST_DEVICE index_t taker(index_t, ViewT const& expert, index_t a) const
  {
    return expert(a);
  }
};

template <class CapacityT>
auto slot_groups([[maybe_unused]] CapacityT const& capacity,
                 Id experts,
                 [[maybe_unused]] index_t ranks)
{
  if constexpr (SharesSlots<CapacityT>) {
    return SlotsOfRank{experts, static_cast<Id>(capacity.shared_by(ranks))};
  } else {
    return SlotsOfExpert{experts};
  }
}

}  // namespace detail
}  // namespace moe
