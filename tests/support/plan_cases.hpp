#pragma once
// Routings to plan, and their plan written with plain loops from the definitions.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <random>
#include <vector>

#include <moe/comm/communicator.hpp>
#include <moe/exec/host/sort.hpp>
#include <moe/plan/drop_policy.hpp>
#include <moe/plan/make_plan.hpp>

namespace moe::test {

// What a router decided, as lists.
struct Routes {
  int tokens  = 0;
  int experts = 0;
  int top_k   = 0;  // 0: the number of choices varies
  std::vector<Id> expert, token, choice;
  std::vector<double> weight;
  std::vector<float> row_max;  // (T)

  [[nodiscard]] std::size_t assignments() const { return expert.size(); }
  [[nodiscard]] RoutingShape shape() const
  {
    index_t const A = static_cast<index_t>(expert.size());
    index_t const K = top_k > 0 ? top_k : tokens > 0 ? (A + tokens - 1) / tokens : 0;
    return {tokens, experts, K};
  }
  [[nodiscard]] bool goes(std::size_t a) const { return expert[a] >= 0 && expert[a] < experts; }
};

enum class Spread {
  random,    // K experts, different ones while there are as many
  one,       // all to the last expert
  few,       // odd experts get nothing
  with_none  // some ids are -1, some are no expert's
};

inline Routes random_routes(std::mt19937& rng, int tokens, int experts, int top_k, Spread spread)
{
  Routes r{tokens, experts, top_k, {}, {}, {}, {}, {}};
  auto const below = [&](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
  std::vector<Id> deck(static_cast<std::size_t>(experts));
  std::iota(deck.begin(), deck.end(), 0);
  for (int t = 0; t < tokens; ++t) {
    int const choices = top_k > 0 ? top_k : below(std::min(experts, 40) + 1);
    std::vector<Id> mine;
    for (int k = 0; k < choices; ++k) {
      int const drawn = k % experts;  // a partial shuffle: no expert twice while there are others
      std::swap(deck[static_cast<std::size_t>(drawn)],
                deck[static_cast<std::size_t>(drawn + below(experts - drawn))]);
      Id e = deck[static_cast<std::size_t>(drawn)];
      if (spread == Spread::one) { e = experts - 1; }
      if (spread == Spread::few) { e -= e % 2; }
      if (spread == Spread::with_none && below(4) == 0) {
        e = below(3) > 0 ? no_expert : below(2) > 0 ? Id{-2} : experts + below(3);
      }
      mine.push_back(e);
    }
    for (int k = 0; k < choices; ++k) {
      r.expert.push_back(mine[static_cast<std::size_t>(k)]);
      r.token.push_back(t);
      r.choice.push_back(k);
      r.weight.push_back(below(50) / 64.0);  // few values, so that ties are common
    }
    r.row_max.push_back(static_cast<float>(below(20)) / 32.f);
  }
  return r;
}

enum class ClaimOrder { none, position, weight, token_priority };

// What a plan must hold; `untouched` where it must not be written.
struct PlanLists {
  std::vector<Id> asked, kept, offsets, slot_of, assignment_at, token_at, dropped_list,
      dropped_count;
  friend bool operator==(PlanLists const&, PlanLists const&) = default;
};
inline constexpr Id untouched = -77;

// The claim of `a` is served before that of `b`.
inline bool claims_before(Routes const& r, ClaimOrder order, std::size_t a, std::size_t b)
{
  if (order == ClaimOrder::weight) {
    double const x = r.weight[a], y = r.weight[b];
    if (std::isnan(x) != std::isnan(y)) { return std::isnan(y); }
    return !std::isnan(x) && x != y ? x > y : a < b;
  }
  if (r.choice[a] != r.choice[b]) { return r.choice[a] < r.choice[b]; }
  if (order == ClaimOrder::token_priority) {
    float const x = r.row_max[static_cast<std::size_t>(r.token[a])];
    float const y = r.row_max[static_cast<std::size_t>(r.token[b])];
    if (std::isnan(x) != std::isnan(y)) { return std::isnan(y); }
    if (!std::isnan(x) && x != y) { return x > y; }
  }
  return a < b;
}

// Expert by expert: who comes, who is served, where they sit. `capacity` is C; `slots` is R.
inline PlanLists naive_plan(
    Routes const& r, ClaimOrder order, SlotLayout layout, std::size_t capacity, std::size_t slots)
{
  auto const id = [](std::size_t i) { return static_cast<Id>(i); };
  PlanLists p;
  p.slot_of.assign(r.assignments(), dropped);
  p.assignment_at.assign(slots, untouched);
  p.token_at.assign(slots, untouched);
  std::vector<bool> is_dropped(r.assignments(), false);
  std::vector<std::vector<std::size_t>> come(static_cast<std::size_t>(r.experts));
  for (std::size_t a = 0; a < r.assignments(); ++a) {
    if (r.goes(a)) { come[static_cast<std::size_t>(r.expert[a])].push_back(a); }
  }
  std::size_t next = 0;
  for (std::size_t e = 0; e < come.size(); ++e) {
    auto served = come[e];
    if (order != ClaimOrder::none && served.size() > capacity) {
      std::sort(served.begin(), served.end(), [&](std::size_t a, std::size_t b) {
        return claims_before(r, order, a, b);
      });
      for (std::size_t i = capacity; i < served.size(); ++i) {
        is_dropped[served[i]] = true;
      }
      served.resize(capacity);
      std::sort(served.begin(), served.end());
    }
    if (layout == SlotLayout::padded) { next = e * capacity; }
    p.asked.push_back(id(come[e].size()));
    p.kept.push_back(id(served.size()));
    p.offsets.push_back(id(next));
    for (auto const a : served) {
      p.slot_of[a]          = id(next);
      p.assignment_at[next] = id(a);
      p.token_at[next++]    = r.token[a];
    }
  }
  p.offsets.push_back(id(layout == SlotLayout::padded ? come.size() * capacity : next));
  for (std::size_t a = 0; a < r.assignments(); ++a) {
    if (is_dropped[a]) { p.dropped_list.push_back(id(a)); }
  }
  p.dropped_count.assign(1, id(p.dropped_list.size()));
  p.dropped_list.resize(r.assignments(), untouched);
  return p;
}

template <class T, class ExecT, class U>
void write(ExecT const& exec, std::vector<U> const& from, Tensor<T, 1, ExecT>& to)
{
  std::vector<T> const converted(from.begin(), from.end());
  exec.copy_from_host(to.view().data_handle(), converted.data(), to.bytes());
}
template <class T, class ExecT>
std::vector<T> read(ExecT const& exec, Tensor<T, 1, ExecT> const& from)
{
  std::vector<T> to(static_cast<std::size_t>(from.extent(0)));
  exec.copy_to_host(to.data(), from.view().data_handle(), from.bytes());
  return to;
}

template <class S, class ExecT>
Routing<S, ExecT> to_routing(ExecT const& exec, Routes const& r)
{
  Routing<S, ExecT> routing(exec, r.tokens, static_cast<index_t>(r.assignments()), r.top_k);
  write(exec, r.expert, routing.expert);
  write(exec, r.weight, routing.weight);
  if (r.top_k == 0) {
    std::vector<Id> offsets(static_cast<std::size_t>(r.tokens) + 1, 0);
    for (Id const t : r.token) {
      ++offsets[static_cast<std::size_t>(t) + 1];
    }
    std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
    write(exec, offsets, routing.offsets);
    write(exec, r.token, routing.token);
  }
  return routing;
}

// The library's plan, in memory that held something else before.
template <class S, class ExecT, class CapacityT>
RoutingPlan<ExecT> plan_of(ExecT const& exec,
                           CapacityT const& capacity,
                           SlotLayout layout,
                           Routes const& r,
                           Routing<S, ExecT> const& routing)
{
  auto const A = static_cast<index_t>(r.assignments());
  RoutingPlan<ExecT> plan(exec, layout, r.experts, A, slots_bound(capacity, layout, r.shape(), A));
  for (auto* lists : {&plan.tokens_per_expert,
                      &plan.kept_per_expert,
                      &plan.expert_offsets,
                      &plan.slot_of,
                      &plan.assignment_at,
                      &plan.token_at,
                      &plan.dropped_list,
                      &plan.dropped_count}) {
    write(exec, std::vector<Id>(static_cast<std::size_t>(lists->extent(0)), untouched), *lists);
  }
  Tensor<float, 1, ExecT> row_max(exec, CapacityT::bounded ? r.tokens : 0);
  if (CapacityT::bounded) { write(exec, r.row_max, row_max); }
  make_plan(exec, SelfCommunicator{}, capacity, r.shape(), routing, row_max.const_view(), plan);
  return plan;
}

template <class ExecT>
PlanLists lists_of(ExecT const& exec, RoutingPlan<ExecT> const& p)
{
  return {read(exec, p.tokens_per_expert),
          read(exec, p.kept_per_expert),
          read(exec, p.expert_offsets),
          read(exec, p.slot_of),
          read(exec, p.assignment_at),
          read(exec, p.token_at),
          read(exec, p.dropped_list),
          read(exec, p.dropped_count)};
}

template <class S, class ExecT, class CapacityT>
PlanLists planned(ExecT const& exec, CapacityT const& capacity, SlotLayout layout, Routes const& r)
{
  auto const routing = to_routing<S>(exec, r);
  return lists_of(exec, plan_of(exec, capacity, layout, r, routing));
}

}  // namespace moe::test
