// Compile at -O1: many plans, little work in each.
// Capacity counted per rank, and slots that a rank's experts share, against plain loops.
#include <moe/plan/rank_capacity.hpp>

#include <moe/expert_parallel.hpp>

#include <doctest/doctest.h>

#include "support/plan_cases.hpp"

using moe::CeilCapacity, moe::DropByPosition, moe::DropByTokenPriority, moe::DropByWeight,
    moe::FixedCapacity, moe::Host, moe::Id, moe::index_t, moe::PerRank, moe::RankCapacity,
    moe::SlotLayout, moe::ThreadCommunicator, moe::ThreadWorld, moe::TutelCapacity;
using moe::test::claims_before, moe::test::ClaimOrder, moe::test::naive_plan, moe::test::planned,
    moe::test::PlanLists, moe::test::random_routes, moe::test::Routes, moe::test::Spread;

namespace {

Host own()
{
  return Host{{.threads = 1}};
}

// Tokens [first[r], first[r + 1]) are those of rank r.
using Parts = std::vector<int>;

Routes part_of(Routes const& all, Parts const& first, std::size_t r)
{
  int const from = first[r], to = first[r + 1];
  Routes part{to - from, all.experts, all.top_k, {}, {}, {}, {}, {}};
  for (std::size_t a = 0; a < all.assignments(); ++a) {
    if (all.token[a] < from || all.token[a] >= to) { continue; }
    part.expert.push_back(all.expert[a]);
    part.token.push_back(all.token[a] - from);
    part.choice.push_back(all.choice[a]);
    part.weight.push_back(all.weight[a]);
  }
  part.row_max.assign(all.row_max.begin() + from, all.row_max.begin() + to);
  return part;
}

// The rank whose block of experts has e, looked for.
std::size_t rank_of(int experts, int ranks, Id e)
{
  for (int r = 0; r < ranks; ++r) {
    auto const range = moe::experts_of_rank(experts, ranks, r);
    if (e >= range.first && e < range.first + range.count) { return static_cast<std::size_t>(r); }
  }
  return 0;
}

// All claims one after the other in the policy's order, each served while its rank has a slot.
std::vector<bool> served_one_by_one(Routes const& r, ClaimOrder order, int ranks, index_t C)
{
  std::vector<std::size_t> claims;
  for (std::size_t a = 0; a < r.assignments(); ++a) {
    if (r.goes(a)) { claims.push_back(a); }
  }
  std::sort(claims.begin(), claims.end(), [&](std::size_t a, std::size_t b) {
    return claims_before(r, order, a, b);
  });
  std::vector<bool> kept(r.assignments(), false);
  std::vector<index_t> load(static_cast<std::size_t>(ranks), 0);
  for (auto const a : claims) {
    kept[a] = load[rank_of(r.experts, ranks, r.expert[a])]++ < C;
  }
  return kept;
}

// The compact plan of a rank's part where `kept` has slots.
PlanLists plan_of_kept(Routes const& part, std::vector<bool> const& kept)
{
  Routes only = part;
  for (std::size_t a = 0; a < kept.size(); ++a) {
    if (!kept[a]) { only.expert[a] = moe::no_expert; }
  }
  auto const A     = part.assignments();
  PlanLists p      = naive_plan(only, ClaimOrder::none, SlotLayout::compact, 0, A);
  std::size_t next = 0;
  for (std::size_t a = 0; a < A; ++a) {
    if (part.goes(a) && !kept[a]) { p.dropped_list[next++] = static_cast<Id>(a); }
  }
  p.dropped_count[0] = static_cast<Id>(next);
  return p;
}

template <class CapacityT, class CommT>
PlanLists plan_over(CommT const& comm, CapacityT const& capacity, Routes const& part)
{
  auto const exec    = own();
  auto const routing = moe::test::to_routing<float>(exec, part);
  auto const A       = static_cast<index_t>(part.assignments());
  moe::RoutingPlan<Host> plan(exec, SlotLayout::compact, part.experts, A, A);
  for (auto* list : {&plan.assignment_at, &plan.token_at, &plan.dropped_list}) {
    moe::test::write(exec, std::vector<Id>(part.assignments(), moe::test::untouched), *list);
  }
  moe::Tensor<float, 1, Host> row_max(exec, part.tokens);
  moe::test::write(exec, part.row_max, row_max);
  make_plan(exec, comm, capacity, part.shape(), routing, row_max.const_view(), plan);
  return moe::test::lists_of(exec, plan);
}

template <class CapacityT>
std::vector<PlanLists> plans_of_world(CapacityT const& capacity,
                                      Routes const& all,
                                      Parts const& first)
{
  std::vector<PlanLists> plans(first.size() - 1);
  ThreadWorld(static_cast<int>(plans.size()), {.deadline = std::chrono::seconds(60)})
      .run([&](ThreadCommunicator const& comm) {
        auto const r = static_cast<std::size_t>(comm.rank());
        plans[r]     = plan_over(comm, capacity, part_of(all, first, r));
      });
  return plans;
}

// All but the loads that were asked for, which are counted over all ranks.
void check_same(PlanLists const& is, PlanLists must_be, PlanLists const& asked_of_all)
{
  must_be.asked = asked_of_all.asked;
  REQUIRE((is.dropped_list == must_be.dropped_list));
  REQUIRE((is == must_be));
}

template <class CapacityT>
void check_per_rank(CapacityT const& capacity, Routes const& all, Parts const& first)
{
  auto const plans   = plans_of_world(PerRank{capacity}, all, first);
  PlanLists const of = naive_plan(all, ClaimOrder::none, SlotLayout::compact, 0, all.assignments());
  for (std::size_t r = 0; r < plans.size(); ++r) {
    CAPTURE(r);
    Routes const part = part_of(all, first, r);
    check_same(plans[r], planned<float>(own(), capacity, SlotLayout::compact, part), of);
  }
}

// The mean K over all ranks, as the plan takes it.
moe::RoutingShape shape_of(Routes const& r, int ranks)
{
  auto shape    = r.shape();
  shape.experts = ranks;
  return shape;
}

// Returns how many were dropped.
template <class CapacityT>
std::size_t check_shared(CapacityT const& capacity,
                         ClaimOrder order,
                         Routes const& all,
                         Parts const& first)
{
  auto const P       = static_cast<int>(first.size()) - 1;
  PlanLists const of = naive_plan(all, ClaimOrder::none, SlotLayout::compact, 0, all.assignments());
  std::vector<index_t> load(static_cast<std::size_t>(P), 0);
  for (Id const e : all.expert) {
    if (e >= 0 && e < all.experts) { ++load[rank_of(all.experts, P, e)]; }
  }
  index_t const C = capacity.slots(shape_of(all, P), *std::max_element(load.begin(), load.end()));
  auto const kept = served_one_by_one(all, order, P, C);

  // Over ranks, where the communicator has as many, or told so; and on one process told so.
  PlanLists const one = plan_over(moe::SelfCommunicator{}, RankCapacity{capacity, P}, all);
  check_same(one, plan_of_kept(all, kept), of);
  auto const plans = plans_of_world(RankCapacity{capacity}, all, first);
  auto at          = kept.begin();
  for (std::size_t r = 0; r < plans.size(); ++r) {
    CAPTURE(r);
    Routes const part = part_of(all, first, r);
    auto const end    = at + static_cast<std::ptrdiff_t>(part.assignments());
    check_same(plans[r], plan_of_kept(part, {at, end}), of);
    at = end;
  }
  // From each rank to each: a rank's own claims alone.
  auto const pairs = plans_of_world(PerRank{RankCapacity{capacity, P}}, all, first);
  for (std::size_t r = 0; r < pairs.size(); ++r) {
    CAPTURE(r);
    Routes const part = part_of(all, first, r);
    auto const alone  = plan_over(moe::SelfCommunicator{}, RankCapacity{capacity, P}, part);
    check_same(pairs[r], alone, of);
  }
  return static_cast<std::size_t>(one.dropped_count[0]);
}

struct Case {
  Routes all;
  Parts first{0};
};
Case random_case(std::mt19937& rng, int ranks)
{
  auto const below = [&](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
  Case c;
  int tokens = 0;
  for (int r = 0; r < ranks; ++r) {
    tokens += below(4) == 0 ? 0 : below(40);
    c.first.push_back(tokens);
  }
  Spread const spreads[] = {Spread::random, Spread::one, Spread::few, Spread::with_none};
  c.all                  = random_routes(
      rng, tokens, 1 + below(12), below(5) == 0 ? 0 : 1 + below(4), spreads[below(4)]);
  return c;
}

template <class Check>
void for_each_case(int cases, Check check)
{
  std::mt19937 rng(17);
  for (int ranks = 1; ranks <= 8; ++ranks) {
    for (int i = 0; i < cases; ++i) {
      CAPTURE(ranks);
      CAPTURE(i);
      check(random_case(rng, ranks));
    }
  }
}

}  // namespace

TEST_CASE("per rank: what each rank's plan is alone")
{
  for_each_case(12, [](Case const& c) {
    check_per_rank(DropByPosition{CeilCapacity{.factor = 0.6}}, c.all, c.first);
    check_per_rank(DropByWeight{CeilCapacity{.factor = 0.4, .alignment = 3}}, c.all, c.first);
    check_per_rank(DropByTokenPriority{FixedCapacity{2}}, c.all, c.first);
    check_per_rank(DropByPosition{TutelCapacity{.factor = 0}}, c.all, c.first);  // its own loads
    check_per_rank(DropByWeight{TutelCapacity{.factor = -0.7}}, c.all, c.first);
  });
}

TEST_CASE("shared by a rank's experts: claims served one by one")
{
  std::size_t drops = 0;
  for_each_case(12, [&](Case const& c) {
    CeilCapacity const rule{.factor = 0.8};
    drops += check_shared(DropByPosition{rule}, ClaimOrder::position, c.all, c.first);
    drops += check_shared(DropByWeight{rule}, ClaimOrder::weight, c.all, c.first);
    drops += check_shared(
        DropByTokenPriority{FixedCapacity{7}}, ClaimOrder::token_priority, c.all, c.first);
    CHECK(check_shared(
              DropByPosition{TutelCapacity{.factor = 0}}, ClaimOrder::position, c.all, c.first) ==
          0);
    drops += check_shared(
        DropByWeight{TutelCapacity{.factor = -0.5}}, ClaimOrder::weight, c.all, c.first);
  });
  CHECK(drops > 1000);
}

TEST_CASE("nothing is counted over ranks but the loads")
{
  std::mt19937 rng(5);
  Routes const all   = random_routes(rng, 40, 6, 2, Spread::random);
  Parts const first  = {0, 10, 10, 40};
  auto const counted = [&](auto capacity) {
    std::vector<std::size_t> calls(3);
    ThreadWorld(3).run([&](ThreadCommunicator const& comm) {
      moe::RecordingCommunicator const recording(comm);
      auto const r = static_cast<std::size_t>(comm.rank());
      (void)plan_over(recording, capacity, part_of(all, first, r));
      calls[r] = recording.calls().size();
    });
    return calls;
  };
  using Counts = std::vector<std::size_t>;
  DropByWeight const policy{CeilCapacity{.factor = 0.5}};
  CHECK(counted(PerRank{policy}) == Counts{1, 1, 1});
  CHECK(counted(PerRank{DropByPosition{TutelCapacity{.factor = 0}}}) == Counts{1, 1, 1});
  CHECK(counted(PerRank{RankCapacity{policy}}) == Counts{1, 1, 1});
  CHECK(counted(policy) > Counts{1, 1, 1});
}

TEST_CASE("the two are what they wrap, and refuse what it refuses")
{
  moe::Check const check{"moe::Layer"};
  RankCapacity{DropByPosition<>{}, 4}.check(check);
  CHECK_THROWS_AS((RankCapacity{DropByPosition<>{}, -1}.check(check)), moe::ValueError);
  CHECK_THROWS_AS((RankCapacity{DropByPosition<>{}, 65536}.check(check)), moe::ValueError);
  CHECK_THROWS_AS((RankCapacity{DropByPosition{FixedCapacity{-1}}}.check(check)), moe::ValueError);
  CHECK_THROWS_AS((PerRank{DropByPosition{FixedCapacity{-1}}}.check(check)), moe::ValueError);
  for (int E = 1; E <= 40; ++E) {
    for (int P = 1; P <= 12; ++P) {
      for (int e = 0; e < E; ++e) {
        REQUIRE(moe::rank_of_expert(E, P, e) == static_cast<index_t>(rank_of(E, P, e)));
      }
    }
  }
}
