#pragma once
// The end of a plan: who takes which assignment is known, and slots are filled in (token, k) order.
// By a stable sort, or by counting where the space has that (plan/cuda/fill_plan.cuh).
#include <bit>
#include <cstdint>

#include <moe/core/search.hpp>
#include <moe/exec/execution_space.hpp>
#include <moe/plan/routing_plan.hpp>

namespace moe::detail {

// The expert an assignment goes to, or E for one that goes nowhere: no_expert, or an id of no
// expert.
MOE_HOST_DEVICE inline Id expert_or_nowhere(Id expert, Id experts)
{
  return expert >= 0 && expert < experts ? expert : experts;
}

// Who takes assignment a: an expert, or E where it was dropped, E + 1 where it goes nowhere.
template <class ExecT>
struct TakenAsServed {  // as a bounded policy decided
  static constexpr bool is_list = true;

  View<std::uint32_t, 1, ExecT> served_by;  // (A); a sort uses it up
  [[nodiscard]] MOE_HOST_DEVICE std::uint32_t operator()(index_t a) const { return served_by(a); }
};
template <class ExecT>
struct TakenAsChosen {  // the unbounded case
  static constexpr bool is_list = false;

  Id experts;
  View<Id const, 1, ExecT> expert;  // (A)
  [[nodiscard]] MOE_HOST_DEVICE std::uint32_t operator()(index_t a) const
  {
    Id const e = expert_or_nowhere(expert(a), experts);
    return static_cast<std::uint32_t>(e == experts ? experts + 1 : e);
  }
};

template <class ExecT>
struct AssignmentViews {  // RoutingPlan's, for functors
  View<Id, 1, ExecT> kept_per_expert, expert_offsets, slot_of, assignment_at, token_at,
      dropped_list, dropped_count;
  View<Id, 1, ExecT> tokens_per_expert;  // or empty: counted elsewhere
};

// What is filled. `taker` is what takes an assignment, as above; `from` of those have a smaller
// one.
template <class ExecT>
struct SlotsToFill {
  TokenAssignments<ExecT> assignments;
  Id experts;
  index_t slots;  // C of padded slots; 0: compact
  AssignmentViews<ExecT> plan;

  [[nodiscard]] MOE_HOST_DEVICE index_t takers() const { return index_t{experts} + 2; }
  [[nodiscard]] MOE_HOST_DEVICE index_t begin(index_t taker, index_t from) const
  {
    return slots > 0 ? taker * slots : from;
  }
  // The taker has `count` of them.
  MOE_HOST_DEVICE void tell(index_t taker, index_t from, index_t count) const
  {
    auto const n = static_cast<Id>(count);
    if (taker < experts) {
      plan.kept_per_expert(taker) = n;
      if (plan.tokens_per_expert.data_handle() != nullptr) { plan.tokens_per_expert(taker) = n; }
    }
    if (taker <= experts) { plan.expert_offsets(taker) = static_cast<Id>(begin(taker, from)); }
    if (taker == experts) { plan.dropped_count(0) = n; }
  }
  // Assignment a is the i-th of its taker, whose slots begin at `first`.
  MOE_HOST_DEVICE void put(index_t taker, index_t first, index_t i, Id a) const
  {
    if (taker < experts) {
      index_t const slot       = first + i;
      plan.slot_of(a)          = static_cast<Id>(slot);
      plan.assignment_at(slot) = a;
      plan.token_at(slot)      = token_of(a);
    } else {
      plan.slot_of(a) = dropped;
      if (taker == experts) { plan.dropped_list(i) = a; }
    }
  }

 private:
  // TokenAssignments', in 32 bits: a 64-bit division is most of a GPU's work here.
  [[nodiscard]] MOE_HOST_DEVICE Id token_of(Id a) const
  {
    int const K = assignments.stride;
    return K > 0 ? static_cast<Id>(static_cast<unsigned>(a) / static_cast<unsigned>(K))
                 : assignments.token(a);
  }
};

template <class TakenT, class ExecT>
struct TakerKey {
  TakenT taken;
  View<std::uint32_t, 1, ExecT> key;  // (A)
  View<Id, 1, ExecT> assignment;      // (A)
  MOE_HOST_DEVICE void operator()(index_t a) const
  {
    if constexpr (!TakenT::is_list) { key(a) = taken(a); }
    assignment(a) = static_cast<Id>(a);
  }
};

template <class ExecT>
struct FillPlanRow {  // of a taker
  SlotsToFill<ExecT> to;
  View<std::uint32_t const, 1, ExecT> taker;  // (A) sorted
  View<Id const, 1, ExecT> assignment;        // (A) sorted alike: in (token, k) order per taker

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t e) const
  {
    index_t const from  = lower_bound(taker, static_cast<std::uint32_t>(e));
    index_t const end   = lower_bound(taker, static_cast<std::uint32_t>(e + 1));
    index_t const first = to.begin(e, from);
    if (team.lane() == 0) { to.tell(e, from, end - from); }
    for (index_t i = from + team.lane(); i < end; i += team.size()) {
      to.put(e, first, i - from, assignment(i));
    }
  }
};

inline int bits_for(index_t largest)
{
  return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(largest)));
}

template <class ExecT, class TakenT>
void fill_plan_by_sort(ExecT const& exec, SlotsToFill<ExecT> const& to, TakenT const& taken)
{
  index_t const A = to.assignments.count;
  Tensor<std::uint32_t, 1, ExecT> key(exec, TakenT::is_list ? 0 : A), key_sorted(exec, A);
  Tensor<Id, 1, ExecT> assignment(exec, A), assignment_sorted(exec, A);
  auto keys = key.view();
  if constexpr (TakenT::is_list) { keys = taken.served_by; }
  for_each_number(exec, A, TakerKey<TakenT, ExecT>{taken, keys, assignment.view()});
  sort_pairs(exec,
             bits_for(to.takers() - 1),
             keys,
             assignment.view(),
             key_sorted.view(),
             assignment_sorted.view());
  exec.for_each_row(
      to.takers(), FillPlanRow<ExecT>{to, key_sorted.const_view(), assignment_sorted.const_view()});
}

// Whether the space has a fill_plan() of its own.
template <class ExecT>
concept CountsSlots = ExecT::counts_slots;

template <class ExecT, class TakenT>
void fill_slots(ExecT const& exec, SlotsToFill<ExecT> const& to, TakenT const& taken)
{
  if constexpr (CountsSlots<ExecT>) {
    fill_plan(exec, to, taken);
  } else {
    fill_plan_by_sort(exec, to, taken);
  }
}

}  // namespace moe::detail
