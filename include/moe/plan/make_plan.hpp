#pragma once
// The stage: routing -> plan, by stable sorts. Ties and order come from positions alone, so the
// plan is the same on every space and for any number of threads.
#include <moe/comm/communicator.hpp>
#include <moe/exec/execution_space.hpp>
#include <moe/plan/fill_plan.hpp>
#include <moe/plan/plan_rows.hpp>
#include <moe/plan/routing_plan.hpp>
#include <moe/plan/serve_over_ranks.hpp>

namespace moe {
namespace detail {

// Waits for the device.
template <class ExecT, class CommT, class GroupsT>
Id largest_load(ExecT const& exec,
                CommT const& comm,
                GroupsT const& groups,
                View<Id const, 1, ExecT> load)
{
  Tensor<Id, 1, ExecT> largest(exec, 1);
  Id max_load = 0;
  exec.for_each_row(1, LargestLoadRow<ExecT, GroupsT>{groups, load, largest.view()});
  wait_for_ranks(exec, comm);
  exec.copy_to_host(&max_load, largest.view().data_handle(), sizeof(Id));
  return max_load;
}

// `shape` with the tokens of all ranks, on which C depends. Waits for the device.
template <class ExecT, class CommT>
RoutingShape shape_over_ranks(ExecT const& exec,
                              CommT const& comm,
                              RoutingShape shape,
                              index_t assignments)
{
  Tensor<Id, 1, ExecT> size(exec, 2);
  exec.for_each_row(1,
                    BatchSizeRow<ExecT>{
                        static_cast<Id>(shape.tokens), static_cast<Id>(assignments), size.view()});
  comm.all_reduce_sum(exec, size.view());
  Id of_all[2];
  wait_for_ranks(exec, comm);
  exec.copy_to_host(of_all, size.view().data_handle(), sizeof of_all);
  shape.tokens = of_all[0];
  if (of_all[0] > 0) { shape.top_k = (index_t{of_all[1]} + of_all[0] - 1) / of_all[0]; }
  return shape;
}

// Who takes which assignment where experts have C slots; returns C. Fills `load` (E), over all
// ranks.
template <class ExecT, class CommT, class CapacityT, class S>
index_t serve_claims(ExecT const& exec,
                     CommT const& comm,
                     CapacityT const& capacity,
                     RoutingShape shape,
                     Routing<S, ExecT> const& routing,
                     View<float const, 1, ExecT> row_max,
                     Tensor<Id, 1, ExecT>& load,
                     View<std::uint32_t, 1, ExecT> served_by)
{
  auto const assignments = routing.assignments();
  auto const expert      = routing.expert.const_view();
  index_t const A        = assignments.count;
  auto const groups      = slot_groups(capacity, static_cast<Id>(load.extent(0)), comm.size());
  using GroupsT          = std::remove_const_t<decltype(groups)>;
  Id max_load            = 0;
  histogram(exec, expert, load.view());
  if constexpr (CountsPerRank<CapacityT>) {
    if (capacity.needs_loads()) { max_load = largest_load(exec, comm, groups, load.const_view()); }
  }
  comm.all_reduce_sum(exec, load.view());

  constexpr bool over_ranks = !AlwaysAlone<CommT> && !CountsPerRank<CapacityT>;
  if constexpr (!CountsPerRank<CapacityT>) {
    if (capacity.needs_loads()) {  // C depends on the loads (Tutel, factor <= 0)
      max_load = largest_load(exec, comm, groups, load.const_view());
    }
  }
  if constexpr (over_ranks) {
    if (comm.size() > 1) { shape = shape_over_ranks(exec, comm, shape, A); }
  }
  shape.experts       = groups.count;
  index_t const slots = capacity.slots(shape, max_load);
  Tensor<std::uint64_t, 1, ExecT> claim(exec, A), claim_sorted(exec, A);
  Tensor<Id, 1, ExecT> assignment(exec, A), assignment_sorted(exec, A);
  exec.for_each_row(assignments.tokens,
                    ClaimKeyRow<CapacityT, S, ExecT, GroupsT>{capacity,
                                                              assignments,
                                                              groups,
                                                              expert,
                                                              routing.weight.const_view(),
                                                              row_max,
                                                              claim.view(),
                                                              assignment.view()});
  sort_pairs(exec,
             CapacityT::claim_bits + bits_for(groups.count),
             claim.view(),
             assignment.view(),
             claim_sorted.view(),
             assignment_sorted.view());
  if constexpr (over_ranks) {
    if (comm.size() > 1) {
      serve_over_ranks<CapacityT::claim_bits>(exec,
                                              comm,
                                              groups,
                                              slots,
                                              claim_sorted.const_view(),
                                              assignment_sorted.const_view(),
                                              expert,
                                              served_by);
    }
  }
  if (!over_ranks || comm.size() == 1) {
    exec.for_each_row(groups.count + 1,
                      ServeClaimsRow<CapacityT, ExecT, GroupsT>{slots,
                                                                groups,
                                                                claim_sorted.const_view(),
                                                                assignment_sorted.const_view(),
                                                                expert,
                                                                served_by});
  }
  return slots;
}

}  // namespace detail

// How many slots a plan of this policy needs at most: the bound on R that the host knows.
template <class CapacityT>
index_t slots_bound(CapacityT const& capacity,
                    SlotLayout layout,
                    RoutingShape shape,
                    index_t assignments)
{
  if constexpr (CapacityT::bounded) {
    if (layout == SlotLayout::padded) {
      return checked_mul("moe::make_plan", "slots", capacity.slots_bound(shape), shape.experts);
    }
  }
  return assignments;
}

// Fills `plan`, made for these sizes, of this rank's assignments. C is counted over all tokens, and
// assignments claim slots over all ranks, in the order of ranks; of this rank alone with PerRank.
// `row_max` (T) is the largest score of each token, and may be empty for a policy that is not
// bounded.
template <class ExecT, class CommT, CapacityPolicy CapacityT, class S>
void make_plan(ExecT const& exec,
               CommT const& comm,
               CapacityT const& capacity,
               RoutingShape shape,
               Routing<S, ExecT> const& routing,
               View<float const, 1, ExecT> row_max,
               RoutingPlan<ExecT>& plan)
{
  auto const phase       = exec.phase(Phase::plan);
  auto const assignments = routing.assignments();
  index_t const A        = assignments.count;
  auto const E           = static_cast<Id>(plan.kept_per_expert.extent(0));
  auto const expert      = routing.expert.const_view();

  detail::SlotsToFill<ExecT> to{assignments,
                                E,
                                0,
                                {plan.kept_per_expert.view(),
                                 plan.expert_offsets.view(),
                                 plan.slot_of.view(),
                                 plan.assignment_at.view(),
                                 plan.token_at.view(),
                                 plan.dropped_list.view(),
                                 plan.dropped_count.view(),
                                 {}}};
  // Loads are the one thing that is counted over all ranks whatever the policy. Without a bound an
  // expert has what asked for it, which is counted on the way.
  if constexpr (!CapacityT::bounded) {
    to.plan.tokens_per_expert = plan.tokens_per_expert.view();
    detail::fill_slots(exec, to, detail::TakenAsChosen<ExecT>{E, expert});
    comm.all_reduce_sum(exec, plan.tokens_per_expert.view());
  } else {
    Tensor<std::uint32_t, 1, ExecT> served_by(exec, A);
    index_t const slots = detail::serve_claims(
        exec, comm, capacity, shape, routing, row_max, plan.tokens_per_expert, served_by.view());
    if (plan.layout == SlotLayout::padded) { to.slots = slots; }
    detail::fill_slots(exec, to, detail::TakenAsServed<ExecT>{served_by.view()});
  }
}

}  // namespace moe
