#pragma once
// Data parallelism beside expert parallelism: groups of ranks, each with all experts among its
// ranks.
#include <type_traits>

#include <moe/comm/communicator.hpp>
#include <moe/core/error.hpp>
#include <moe/expert/gradients.hpp>

namespace moe {

// `world`: the ranks of all groups. `replicas`: those ranks, one of each group, that hold the
// experts that this rank holds, as world.split(rank % P, rank / P) gives them for groups of P ranks
// one after the other. Held by reference. A group is a batch of its own to capacity and losses:
// loads, means and drops are over its tokens. Gradients are summed, so n groups add up n losses of
// their own: for the strength of one batch, divide the coefficients by n.
template <HasRank WorldT, HasRank ReplicasT>
struct DataParallel {
  constexpr DataParallel(WorldT const& w, ReplicasT const& r) : world{w}, replicas{r} {}
  WorldT const& world;
  ReplicasT const& replicas;
};

namespace detail {

template <class ExecT, class CommT, class ParamsT>
void all_reduce_views(ExecT const& exec, CommT const& comm, ParamsT const& params)
{
  params.for_each([&](char const*, auto const& view, auto const&) {
    using T = typename std::decay_t<decltype(view)>::value_type;
    if (view.empty()) { return; }
    comm.all_reduce_sum(exec, View<T, 1, ExecT>(view.data_handle(), view.size()));
  });
}

// The experts' gradients over their replicas; what every rank has over the world, in one sum, so
// that all ranks get the same bits. Where it is a sum over the group's ranks already
// (`summed_in_group`), each group's first rank brings it.
template <class ExecT, class GroupT, class WorldT, class ReplicasT, class ExpertsT, class BesideT>
void all_reduce_groups(ExecT const& exec,
                       GroupT const& group,
                       DataParallel<WorldT, ReplicasT> const& groups,
                       bool summed_in_group,
                       ExpertsT const& experts,
                       BesideT const& beside)
{
  Check{"moe::Layer::all_reduce_gradients", groups.world.rank()}.equal(
      "ranks of the world",
      groups.world.size(),
      "ranks of a group x replicas",
      index_t{group.size()} * groups.replicas.size());
  if (summed_in_group && group.rank() != 0) { zero_views(exec, beside); }
  all_reduce_views(exec, groups.world, beside);
  all_reduce_views(exec, groups.replicas, experts);
}

}  // namespace detail
}  // namespace moe
