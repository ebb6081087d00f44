// Compile at -O1: many plans, little work in each.
// On every space.
// The plan is the naive one.
#include "support/spaces.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "support/plan_cases.hpp"

using moe::Dropless, moe::DropByPosition, moe::DropByTokenPriority, moe::DropByWeight,
    moe::FixedCapacity, moe::Id, moe::index_t, moe::SlotLayout, moe::TutelCapacity;
using moe::test::ClaimOrder, moe::test::naive_plan, moe::test::planned, moe::test::PlanLists,
    moe::test::random_routes, moe::test::Routes, moe::test::Spread, moe::test::one_thread,
    moe::test::three_threads, moe::test::TestSpace;

namespace {

// The library's plan equals the naive one, on one and on three threads.
template <class CapacityT>
void check_plan(
    CapacityT const& policy, ClaimOrder order, SlotLayout layout, Routes const& r, int C)
{
  CAPTURE(r.tokens);
  CAPTURE(r.experts);
  CAPTURE(r.top_k);
  CAPTURE(C);
  CAPTURE(static_cast<int>(order));
  CAPTURE(static_cast<int>(layout));
  // R: A rows, or for each expert C slots, of which no more than T K can be needed.
  index_t const slots = std::min<index_t>(C, r.shape().tokens * r.shape().top_k);
  index_t const R =
      layout == SlotLayout::padded ? slots * r.experts : static_cast<index_t>(r.assignments());
  PlanLists const naive =
      naive_plan(r, order, layout, static_cast<std::size_t>(slots), static_cast<std::size_t>(R));
  PlanLists const plan = planned<float>(one_thread(), policy, layout, r);
  REQUIRE((plan.asked == naive.asked));
  REQUIRE((plan.kept == naive.kept));
  REQUIRE((plan.offsets == naive.offsets));
  REQUIRE((plan.slot_of == naive.slot_of));
  REQUIRE((plan.assignment_at == naive.assignment_at));
  REQUIRE((plan.token_at == naive.token_at));
  REQUIRE((plan.dropped_count == naive.dropped_count));
  REQUIRE((plan.dropped_list == naive.dropped_list));
  REQUIRE((planned<float>(three_threads(), policy, layout, r) == plan));
}

void check_policies(Routes const& r, int C, SlotLayout layout)
{
  check_plan(Dropless{}, ClaimOrder::none, SlotLayout::compact, r, 0);
  check_plan(DropByPosition{FixedCapacity{C}}, ClaimOrder::position, layout, r, C);
  check_plan(DropByWeight{FixedCapacity{C}}, ClaimOrder::weight, layout, r, C);
  check_plan(DropByTokenPriority{FixedCapacity{C}}, ClaimOrder::token_priority, layout, r, C);
}

// The i-th capacity to try: none, one, below, at and above the mean load, and no bound.
int capacity_to_try(std::size_t i, Routes const& r)
{
  auto const A    = static_cast<int>(r.assignments());
  int const mean  = (A + r.experts - 1) / r.experts;
  int const Cs[6] = {mean, 0, mean + mean / 4, 1, std::max(0, mean - 1), A};
  int const C     = Cs[i % 6];
  return static_cast<index_t>(C) * r.experts < (1 << 21) ? C : mean;
}

}  // namespace

TEST_CASE("the plan is the naive one for every T and E")
{
  std::mt19937 rng(3);
  int const Ks[] = {2, 1, 8, 3, 32, 5};
  std::size_t i  = 0;
  for (int const T : {0, 1, 2, 7, 63, 65, 127, 128, 129, 4097}) {
    for (int const E : {1, 2, 5, 31, 33, 64, 127, 129, 255, 256, 257, 1024}) {
      int const K       = T > 1000 && E > 100 ? Ks[i % 4] : Ks[i % 6];
      auto const spread = static_cast<Spread>(i % 7 < 4 ? i % 7 : 0);
      Routes const r    = random_routes(rng, T, E, K, spread);
      check_policies(r,
                     capacity_to_try(i / 3, r),
                     (i / 2) % 2 == 0 ? SlotLayout::compact : SlotLayout::padded);
      ++i;
    }
  }
}

TEST_CASE("the plan is the naive one for every K, spread, capacity and layout")
{
  std::mt19937 rng(4);
  for (int K = 1; K <= 32; ++K) {
    for (auto const spread : {Spread::random, Spread::one, Spread::few, Spread::with_none}) {
      for (std::size_t i = 0; i < 6; ++i) {
        int const T    = static_cast<int>(rng() % 40);
        int const E    = K % 2 == 0 ? K : 1 + static_cast<int>(rng() % 50);
        Routes const r = random_routes(rng, T, E, K, spread);
        check_policies(
            r, capacity_to_try(i, r), rng() % 2 > 0 ? SlotLayout::compact : SlotLayout::padded);
      }
    }
  }
}

TEST_CASE("the plan is the naive one for as many experts as Cuda counts at once, and more" *
          doctest::test_suite("small"))
{
  std::mt19937 rng(6);
  for (int const E : {1023, 1024, 1025, 2000}) {
    Routes const r = random_routes(rng, 700, E, 8, Spread::with_none);
    check_plan(Dropless{}, ClaimOrder::none, SlotLayout::compact, r, 0);
    check_plan(DropByWeight{FixedCapacity{3}}, ClaimOrder::weight, SlotLayout::padded, r, 3);
  }
}

TEST_CASE("the plan is the naive one where the number of choices varies")
{
  std::mt19937 rng(5);
  for (int const T : {0, 1, 2, 7, 65, 128, 4097}) {
    for (int const E : {1, 5, 31, 256}) {
      Routes const r = random_routes(rng, T, E, 0, T == 128 ? Spread::with_none : Spread::random);
      CAPTURE(T);
      CAPTURE(E);
      check_plan(Dropless{}, ClaimOrder::none, SlotLayout::compact, r, 0);
      auto const C = static_cast<int>(r.assignments()) / E;
      check_plan(DropByWeight{FixedCapacity{C}}, ClaimOrder::weight, SlotLayout::padded, r, C);
      if (E <= 31) {
        check_plan(
            DropByPosition{FixedCapacity{C}}, ClaimOrder::position, SlotLayout::compact, r, C);
      }
    }
  }
}

TEST_CASE("a token with more choices than claims tell apart disturbs no other expert")
{
  // Two tokens choose all experts, one in descending order; all past the 32nd choice claim
  // together.
  Routes r{2, 300, 0, {}, {}, {}, {}, {0.f, 0.f}};
  for (Id a = 0; a < 600; ++a) {
    r.expert.push_back(a < 300 ? a : 599 - a);
    r.token.push_back(a / 300);
    r.choice.push_back(std::min(a % 300, 31));
    r.weight.push_back(0.5);
  }
  check_plan(DropByPosition{FixedCapacity{1}}, ClaimOrder::position, SlotLayout::padded, r, 1);
  check_plan(
      DropByTokenPriority{FixedCapacity{1}}, ClaimOrder::token_priority, SlotLayout::compact, r, 1);
}

TEST_CASE("a layer in double plans as one in float")
{
  std::mt19937 rng(6);
  Routes const r = random_routes(rng, 129, 17, 4, Spread::random);
  for (int const C : {0, 3, 31}) {
    DropByWeight const policy{FixedCapacity{C}};
    CHECK((planned<double>(one_thread(), policy, SlotLayout::padded, r) ==
           planned<float>(one_thread(), policy, SlotLayout::padded, r)));
  }
}

TEST_CASE("a million assignments: each live one is in exactly one slot")
{
  std::mt19937 rng(7);
  int const T = 125000, E = 256, K = 8;
  Routes const r       = random_routes(rng, T, E, K, Spread::with_none);
  auto const A         = static_cast<index_t>(r.assignments());
  PlanLists const plan = planned<float>(three_threads(), Dropless{}, SlotLayout::compact, r);
  REQUIRE(A == 1000000);
  index_t live = 0, wrong = 0;
  std::vector<int> times(r.assignments(), 0);
  for (std::size_t e = 0; e < static_cast<std::size_t>(E); ++e) {
    wrong += plan.offsets[e + 1] < plan.offsets[e];
    for (auto s = static_cast<std::size_t>(plan.offsets[e]);
         s < static_cast<std::size_t>(plan.offsets[e + 1]);
         ++s) {
      auto const a = static_cast<std::size_t>(plan.assignment_at[s]);
      ++times[a];
      wrong += r.expert[a] != static_cast<Id>(e);                // where it wanted to go
      wrong += plan.slot_of[a] != static_cast<Id>(s);            // the inverse map
      wrong += plan.token_at[s] != static_cast<Id>(a / K);       // its row of x
      wrong += s > static_cast<std::size_t>(plan.offsets[e]) &&  // in (token, k) order
               plan.assignment_at[s - 1] >= plan.assignment_at[s];
      ++live;
    }
  }
  for (std::size_t a = 0; a < r.assignments(); ++a) {
    wrong += times[a] != (r.goes(a) ? 1 : 0);
    wrong += (plan.slot_of[a] == moe::dropped) != !r.goes(a);
  }
  CHECK(wrong == 0);
  CHECK(live == plan.offsets.back());
  CHECK(plan.dropped_count[0] == 0);
}

TEST_CASE("kept, dropped and nowhere are all, and no expert keeps more than C")
{
  std::mt19937 rng(8);
  for (int i = 0; i < 60; ++i) {
    int const T = static_cast<int>(rng() % 300), E = 1 + static_cast<int>(rng() % 40);
    Routes const r = random_routes(rng, T, E, 1 + i % 8, static_cast<Spread>(i % 4));
    moe::CeilCapacity const rule{.factor = 0.25 * static_cast<double>(1 + rng() % 8)};
    DropByTokenPriority const policy{rule};
    index_t const C      = policy.slots(r.shape(), 0);
    PlanLists const plan = planned<float>(three_threads(), policy, SlotLayout::padded, r);
    index_t nowhere      = 0;
    for (std::size_t a = 0; a < r.assignments(); ++a) {
      nowhere += r.goes(a) ? 0 : 1;
    }
    index_t const kept  = std::accumulate(plan.kept.begin(), plan.kept.end(), index_t{0});
    index_t const asked = std::accumulate(plan.asked.begin(), plan.asked.end(), index_t{0});
    CHECK(kept + plan.dropped_count[0] + nowhere == static_cast<index_t>(r.assignments()));
    CHECK(kept + plan.dropped_count[0] == asked);
    for (std::size_t e = 0; e < plan.kept.size(); ++e) {
      CHECK(plan.kept[e] == std::min<index_t>(plan.asked[e], C));
      CHECK(plan.offsets[e] == static_cast<Id>(static_cast<index_t>(e) * C));
    }
    auto const end = plan.dropped_list.begin() + plan.dropped_count[0];
    CHECK(std::is_sorted(plan.dropped_list.begin(), end));
    CHECK(std::adjacent_find(plan.dropped_list.begin(), end) == end);
  }
}

TEST_CASE("renaming experts renames the plan's experts and changes nothing else")
{
  std::mt19937 rng(9);
  Routes const r = random_routes(rng, 500, 33, 4, Spread::random);
  std::vector<Id> name(33);
  std::iota(name.begin(), name.end(), 0);
  std::shuffle(name.begin(), name.end(), rng);
  Routes renamed = r;
  for (auto& e : renamed.expert) {
    e = name[static_cast<std::size_t>(e)];
  }
  auto const check = [&](auto policy, SlotLayout layout) {
    PlanLists const a = planned<float>(one_thread(), policy, layout, r);
    PlanLists const b = planned<float>(one_thread(), policy, layout, renamed);
    CHECK((a.dropped_list == b.dropped_list));
    for (std::size_t e = 0; e < name.size(); ++e) {
      auto const f = static_cast<std::size_t>(name[e]);
      CHECK(a.asked[e] == b.asked[f]);
      REQUIRE(a.kept[e] == b.kept[f]);
      CHECK(std::equal(a.assignment_at.begin() + a.offsets[e],
                       a.assignment_at.begin() + a.offsets[e] + a.kept[e],
                       b.assignment_at.begin() + b.offsets[f]));
    }
  };
  check(Dropless{}, SlotLayout::compact);
  check(DropByPosition{FixedCapacity{50}}, SlotLayout::padded);
  check(DropByWeight{FixedCapacity{50}}, SlotLayout::compact);
  check(DropByTokenPriority{FixedCapacity{50}}, SlotLayout::padded);
}

TEST_CASE("a capacity that follows the loads: nothing is dropped, and slots are as many as needed")
{
  std::mt19937 rng(10);
  for (auto const spread : {Spread::random, Spread::one, Spread::few}) {
    Routes const r       = random_routes(rng, 100, 8, 2, spread);
    PlanLists const free = planned<float>(
        three_threads(), DropByPosition{TutelCapacity{.factor = 0}}, SlotLayout::padded, r);
    Id const load = *std::max_element(free.asked.begin(), free.asked.end());
    CHECK(free.dropped_count[0] == 0);
    CHECK((free.kept == free.asked));
    CHECK(free.offsets[1] == load);
    CHECK(free.offsets[8] == 8 * load);

    // At most 2 * 13 slots: fewer when the largest load is smaller.
    PlanLists const both = planned<float>(
        three_threads(), DropByPosition{TutelCapacity{.factor = -1}}, SlotLayout::padded, r);
    CHECK(both.offsets[1] == std::min(load, 26));
    for (std::size_t e = 0; e < 8; ++e) {
      CHECK(both.kept[e] == std::min(both.asked[e], std::min(load, 26)));
    }
  }
}

TEST_CASE("a plan's memory is used again for other routing and nothing stale is left")
{
  std::mt19937 rng(11);
  Routes const first = random_routes(rng, 129, 17, 4, Spread::one);
  Routes const next  = random_routes(rng, 129, 17, 4, Spread::with_none);
  DropByWeight const policy{FixedCapacity{20}};
  auto const routing = moe::test::to_routing<float>(one_thread(), next);
  auto plan          = moe::test::plan_of(one_thread(),
                                 policy,
                                 SlotLayout::padded,
                                 first,
                                 moe::test::to_routing<float>(one_thread(), first));
  moe::Tensor<float, 1, TestSpace> row_max(one_thread(), 129);
  moe::test::write(one_thread(), next.row_max, row_max);
  moe::make_plan(one_thread(),
                 moe::SelfCommunicator{},
                 policy,
                 next.shape(),
                 routing,
                 row_max.const_view(),
                 plan);
  PlanLists const again = moe::test::lists_of(one_thread(), plan);
  PlanLists const fresh = planned<float>(one_thread(), policy, SlotLayout::padded, next);
  CHECK((again.slot_of == fresh.slot_of));
  CHECK((again.kept == fresh.kept));
  CHECK((again.offsets == fresh.offsets));
  REQUIRE(again.dropped_count == fresh.dropped_count);
  CHECK(std::equal(fresh.dropped_list.begin(),
                   fresh.dropped_list.begin() + fresh.dropped_count[0],
                   again.dropped_list.begin()));
}
