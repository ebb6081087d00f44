#pragma once
// The row functors of make_plan.hpp: which assignment claims and takes which slot.
#include <cstdint>

#include <moe/core/search.hpp>
#include <moe/plan/fill_plan.hpp>

namespace moe::detail {

// Order in which assignments claim their slots: (group, the policy's claim), position by
// stability. Assignments that go nowhere come after all groups.
template <class CapacityT, class S, class ExecT, class GroupsT>
struct ClaimKeyRow {
  CapacityT capacity;
  TokenAssignments<ExecT> assignments;
  GroupsT groups;
  View<Id const, 1, ExecT> expert;      // (A)
  View<S const, 1, ExecT> weight;       // (A)
  View<float const, 1, ExecT> row_max;  // (T)
  View<std::uint64_t, 1, ExecT> key;    // (A)
  View<Id, 1, ExecT> value;             // (A)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const from = assignments.begin(t);
    for (index_t a = from + team.lane(); a < assignments.end(t); a += team.size()) {
      std::uint64_t const counts = (std::uint64_t{1} << CapacityT::claim_bits) - 1;
      std::uint64_t const claim =
          capacity.claim(static_cast<int>(a - from), static_cast<float>(weight(a)), row_max(t));
      key(a)   = group(a) | (claim & counts);
      value(a) = static_cast<Id>(a);
    }
    if (t + 1 < assignments.tokens) { return; }
    for (index_t a = assignments.end(t) + team.lane(); a < assignments.count; a += team.size()) {
      key(a)   = group(a);
      value(a) = static_cast<Id>(a);
    }
  }

 private:
  [[nodiscard]] MOE_HOST_DEVICE std::uint64_t group(index_t a) const
  {
    Id const e = expert_or_nowhere(expert(a), groups.experts);
    return static_cast<std::uint64_t>(groups.group_of(e)) << CapacityT::claim_bits;
  }
};

// A claim is served when fewer than C come before it in its group.
template <class CapacityT, class ExecT, class GroupsT>
struct ServeClaimsRow {
  index_t slots;  // C
  GroupsT groups;
  View<std::uint64_t const, 1, ExecT> claim;  // (A) sorted
  View<Id const, 1, ExecT> assignment;        // (A) sorted alike
  View<Id const, 1, ExecT> expert;            // (A)
  View<std::uint32_t, 1, ExecT> served_by;    // (A) by assignment: expert, E dropped, E + 1 nowhere

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t g) const
  {
    bool const nowhere = g == groups.count;
    auto const from    = lower_bound(claim, static_cast<std::uint64_t>(g) << CapacityT::claim_bits);
    auto const to =
        nowhere ? claim.extent(0)
                : lower_bound(claim, static_cast<std::uint64_t>(g + 1) << CapacityT::claim_bits);
    index_t const refused = index_t{groups.experts} + (nowhere ? 1 : 0);
    for (index_t i = from + team.lane(); i < to; i += team.size()) {
      bool const served = !nowhere && i - from < slots;
      Id const a        = assignment(i);
      served_by(a)      = static_cast<std::uint32_t>(served ? groups.taker(g, expert, a) : refused);
    }
  }
};

// The largest load of a group of experts, which are neighbours.
template <class ExecT, class GroupsT>
struct LargestLoadRow {
  GroupsT groups;
  View<Id const, 1, ExecT> load;  // (E)
  View<Id, 1, ExecT> out;         // (1)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t) const
  {
    constexpr index_t most = 0x7fffffff;  // of an Id
    Id hi                  = 0;
    for (Id e = team.lane(); e < groups.experts; e += team.size()) {
      Id const g = groups.group_of(e);
      if (e > 0 && groups.group_of(e - 1) == g) { continue; }
      index_t all = 0;
      for (Id i = e; i < groups.experts && groups.group_of(i) == g; ++i) {
        all += load(i);
      }
      hi = all <= hi ? hi : static_cast<Id>(all < most ? all : most);
    }
    hi = team.max(hi);
    if (team.lane() == 0) { out(0) = hi; }
  }
};

template <class ExecT>
struct BatchSizeRow {
  Id tokens, assignments;
  View<Id, 1, ExecT> size;  // (2)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t) const
  {
    if (team.lane() != 0) { return; }
    size(0) = tokens;
    size(1) = assignments;
  }
};

}  // namespace moe::detail
