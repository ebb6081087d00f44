#include <moe/plan/drop_policy.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "support/plan_cases.hpp"

using moe::DropByPosition, moe::DropByTokenPriority, moe::DropByWeight, moe::FixedCapacity,
    moe::Host, moe::Id, moe::SlotLayout;
using moe::test::planned, moe::test::PlanLists, moe::test::Routes;

namespace {

Host const exec{{.threads = 2}};
float const not_a_number = std::numeric_limits<float>::quiet_NaN();
float const infinity     = std::numeric_limits<float>::infinity();

// K choices per token, row by row.
Routes routes(int experts,
              int top_k,
              std::vector<Id> expert,
              std::vector<double> weight,
              std::vector<float> row_max)
{
  Routes r{static_cast<int>(row_max.size()),
           experts,
           top_k,
           std::move(expert),
           {},
           {},
           std::move(weight),
           std::move(row_max)};
  for (std::size_t a = 0; a < r.expert.size(); ++a) {
    r.token.push_back(static_cast<Id>(a) / top_k);
    r.choice.push_back(static_cast<Id>(a) % top_k);
  }
  return r;
}

std::vector<Id> dropped_of(PlanLists const& p)
{
  return {p.dropped_list.begin(), p.dropped_list.begin() + p.dropped_count[0]};
}

// Who is dropped of tokens that all want expert 0, K = 1, when C have a slot.
template <template <class> class PolicyT>
std::vector<Id> dropped_with(int C, std::vector<double> weight, std::vector<float> row_max)
{
  Routes const r = routes(1, 1, std::vector<Id>(weight.size(), 0), weight, row_max);
  return dropped_of(
      planned<float>(exec, PolicyT<FixedCapacity>{FixedCapacity{C}}, SlotLayout::padded, r));
}

using Ids = std::vector<Id>;

}  // namespace

// Three tokens, two choices each; expert 0 is asked for by 0/k1, 1/k0, 2/k1; expert 1 by 0/k0,
// 1/k1, 2/k0. Assignments are 0 ... 5 in (t, k) order.
TEST_CASE("by position all first choices come before all second ones")
{
  Routes const r = routes(2, 2, {1, 0, 0, 1, 1, 0}, {.1, .9, .2, .8, .3, .7}, {.1f, .2f, .3f});
  DropByPosition const one{FixedCapacity{1}}, two{FixedCapacity{2}};
  CHECK(dropped_of(planned<float>(exec, one, SlotLayout::padded, r)) == Ids{1, 3, 4, 5});
  CHECK(dropped_of(planned<float>(exec, two, SlotLayout::padded, r)) == Ids{3, 5});
  // Rows lie in (t, k) order although assignment 2 claimed its slot before 1 did.
  CHECK(planned<float>(exec, two, SlotLayout::padded, r).assignment_at == Ids{1, 2, 0, 4});
  CHECK(planned<float>(exec, two, SlotLayout::padded, r).token_at == Ids{0, 1, 0, 2});
}

TEST_CASE("by weight the largest keep their slots, ties by position")
{
  Routes const r = routes(2, 2, {1, 0, 0, 1, 1, 0}, {.1, .9, .2, .8, .3, .7}, {.1f, .2f, .3f});
  DropByWeight const one{FixedCapacity{1}}, two{FixedCapacity{2}};
  CHECK(dropped_of(planned<float>(exec, one, SlotLayout::padded, r)) == Ids{0, 2, 4, 5});
  CHECK(dropped_of(planned<float>(exec, two, SlotLayout::padded, r)) == Ids{0, 2});
  CHECK(dropped_with<DropByWeight>(2, {.5, .5, .5, .5}, {0, 0, 0, 0}) == Ids{2, 3});
  CHECK(dropped_with<DropByWeight>(2, {.5, .75, .5, .75}, {0, 0, 0, 0}) == Ids{0, 2});
  CHECK(dropped_with<DropByWeight>(3, {.5, .75, .5, .75}, {0, 0, 0, 0}) == Ids{2});
}

TEST_CASE("by token priority the token with the largest score goes first within a choice")
{
  Routes const r = routes(2, 2, {1, 0, 0, 1, 1, 0}, {.1, .9, .2, .8, .3, .7}, {.1f, .2f, .3f});
  DropByTokenPriority const one{FixedCapacity{1}}, two{FixedCapacity{2}};
  // Expert 0: 2 (first choice), then 5 (.3) before 1 (.1). Expert 1: 4 (.3), 0 (.1), then 3.
  CHECK(dropped_of(planned<float>(exec, one, SlotLayout::padded, r)) == Ids{0, 1, 3, 5});
  CHECK(dropped_of(planned<float>(exec, two, SlotLayout::padded, r)) == Ids{1, 3});
  CHECK(dropped_with<DropByTokenPriority>(1, {1, 1, 1}, {.2f, .9f, .9f}) == Ids{0, 2});
}

TEST_CASE("weights of every kind have an order: infinite, negative, zeros, NaN last")
{
  std::vector<double> const weight = {
      not_a_number, -1, 0, 1e-42, -0.0, infinity, -infinity, .5, -not_a_number, -2};
  std::vector<float> const row_max(weight.size(), 0.f);
  Ids const order = {5, 7, 3, 2, 4, 1, 9, 6, 0, 8};  // largest first
  std::vector<float> const as_row_max(weight.begin(), weight.end());
  for (std::size_t C = 0; C <= order.size(); ++C) {
    CAPTURE(C);
    Ids expected(order.begin() + static_cast<std::ptrdiff_t>(C), order.end());
    std::sort(expected.begin(), expected.end());
    CHECK(dropped_with<DropByWeight>(static_cast<int>(C), weight, row_max) == expected);
    CHECK(dropped_with<DropByTokenPriority>(
              static_cast<int>(C), std::vector<double>(10, 1.0), as_row_max) == expected);
  }
}

TEST_CASE("NaN and negative weights among many leave the plan whole")
{
  std::mt19937 rng(1);
  for (int i = 0; i < 20; ++i) {
    Routes r = moe::test::random_routes(rng, 129, 5, 3, moe::test::Spread::with_none);
    for (std::size_t a = 0; a < r.weight.size(); ++a) {
      r.weight[a] -= 0.25;
      if (rng() % 4 == 0) { r.weight[a] = not_a_number; }
    }
    for (auto& m : r.row_max) {
      if (rng() % 4 == 0) { m = rng() % 2 > 0 ? not_a_number : -m; }
    }
    std::size_t const C = rng() % 60;
    FixedCapacity const rule{static_cast<moe::index_t>(C)};
    CHECK((planned<float>(exec, DropByWeight{rule}, SlotLayout::padded, r) ==
           naive_plan(r, moe::test::ClaimOrder::weight, SlotLayout::padded, C, 5 * C)));
    CHECK((planned<float>(exec, DropByTokenPriority{rule}, SlotLayout::padded, r) ==
           naive_plan(r, moe::test::ClaimOrder::token_priority, SlotLayout::padded, C, 5 * C)));
  }
}

TEST_CASE("capacity 0, 1, one too few, exact and one too many")
{
  // Expert 0 is asked for 4 times, expert 1 twice, expert 2 never.
  Routes const r = routes(3,
                          2,
                          {0, 1, 0, 1, 0, moe::no_expert, 0, -2},
                          std::vector<double>(8, .5),
                          {.1f, .2f, .3f, .4f});
  struct Row {
    int C;
    Ids kept, dropped;
  };
  Row const table[] = {
      {0, {0, 0, 0}, {0, 1, 2, 3, 4, 6}},
      {1, {1, 1, 0}, {2, 3, 4, 6}},
      {2, {2, 2, 0}, {4, 6}},
      {3, {3, 2, 0}, {6}},
      {4, {4, 2, 0}, {}},
      {5, {4, 2, 0}, {}},
  };
  for (auto const& row : table) {
    for (auto const layout : {SlotLayout::compact, SlotLayout::padded}) {
      CAPTURE(row.C);
      PlanLists const p = planned<float>(exec, DropByPosition{FixedCapacity{row.C}}, layout, r);
      CHECK(p.asked == Ids{4, 2, 0});
      CHECK(p.kept == row.kept);
      CHECK(dropped_of(p) == row.dropped);
      CHECK(p.slot_of[5] == moe::dropped);  // nowhere, but not in the list
      CHECK(p.slot_of[7] == moe::dropped);
    }
  }
}

TEST_CASE("the slots that a rule with an alignment gives are there for the plan")
{
  // Two tokens, mean load 1: aligned to 8 although no expert can get more than 2.
  Routes const r = routes(4, 1, {3, 3}, {1, 1}, {0, 0});
  DropByPosition const policy{moe::CeilCapacity{.factor = 1, .alignment = 8}};
  PlanLists const p = planned<float>(exec, policy, SlotLayout::padded, r);
  CHECK(p.offsets == Ids{0, 8, 16, 24, 32});
  CHECK(p.slot_of == Ids{24, 25});
  CHECK(p.assignment_at.size() == 32);
}
