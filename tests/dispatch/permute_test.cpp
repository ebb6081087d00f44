// Compile at -O1: little work.
// On every space.
#include "support/spaces.hpp"

#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "support/plan_cases.hpp"

using moe::Id, moe::index_t, moe::SlotLayout, moe::Tensor;
using moe::test::random_routes, moe::test::read, moe::test::Routes, moe::test::Spread,
    moe::test::TestSpace, moe::test::write;

namespace {

template <class S>
void check_there_and_back(TestSpace const& exec, Routes const& r, SlotLayout layout, index_t C)
{
  auto const routing = moe::test::to_routing<S>(exec, r);
  auto const plan =
      moe::test::plan_of(exec, moe::DropByWeight{moe::FixedCapacity{C}}, layout, r, routing);
  auto const A       = static_cast<index_t>(r.assignments());
  auto const slot_of = read(exec, plan.slot_of);

  std::vector<S> number;
  for (index_t a = 0; a < A; ++a) {
    number.push_back(static_cast<S>(a) / 4 + 1);
  }
  Tensor<S, 1, TestSpace> of_assignment(exec, A), at_slot(exec, plan.rows()), back(exec, A);
  write(exec, number, of_assignment);
  write(exec, std::vector<S>(static_cast<std::size_t>(plan.rows()), S{-5}), at_slot);
  write(exec, std::vector<S>(number.size(), S{-5}), back);
  moe::to_slots(exec, plan, of_assignment.const_view(), at_slot.view());
  moe::from_slots(exec, plan, at_slot.const_view(), back.view());

  std::vector<S> at(static_cast<std::size_t>(plan.rows()), S{-5}), expected(number.size(), S{0});
  for (std::size_t a = 0; a < number.size(); ++a) {
    if (slot_of[a] == moe::dropped) { continue; }
    at[static_cast<std::size_t>(slot_of[a])] = number[a];
    expected[a]                              = number[a];
  }
  CHECK((read(exec, at_slot) == at));  // slots that nobody has are left alone
  CHECK((read(exec, back) == expected));
}

}  // namespace

TEST_CASE("numbers go to their slots and come back, 0 where there is no slot")
{
  std::mt19937 rng(1);
  for (int const threads : {1, 3}) {
    TestSpace const exec = moe::test::test_space(moe::Products::own, threads);
    for (int const T : {0, 1, 2, 7, 65, 129, 1000}) {
      for (auto const spread : {Spread::random, Spread::with_none, Spread::one}) {
        Routes const r = random_routes(rng, T, 9, 3, spread);
        for (index_t const C : {0, 1, T / 3, 3 * T}) {
          CAPTURE(T);
          CAPTURE(C);
          check_there_and_back<float>(exec, r, SlotLayout::compact, C);
          check_there_and_back<double>(exec, r, SlotLayout::padded, C);
        }
      }
      check_there_and_back<float>(
          exec, random_routes(rng, T, 9, 0, Spread::random), SlotLayout::padded, T / 2);
    }
  }
}
