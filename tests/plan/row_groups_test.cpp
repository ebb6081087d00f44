#include <moe/exec/host/grouped_rows.hpp>
#include <moe/expert/schedule.hpp>

#include <doctest/doctest.h>

#include <random>
#include <utility>
#include <vector>

#include <moe/plan/drop_policy.hpp>

#include "support/plan_cases.hpp"

using moe::Host, moe::Id, moe::index_t, moe::SlotLayout;
using moe::test::random_routes, moe::test::Routes, moe::test::Spread;

namespace {

Host const exec{{.threads = 1}};

using Range = std::pair<Id, Id>;

template <class ScheduleT>
std::vector<Range> calls_of(ScheduleT schedule, moe::RowGroups<Host> const& groups)
{
  std::vector<Range> calls;
  schedule.for_each_call(exec, groups, [&](moe::RowGroups<Host> const& g) {
    CHECK(g.rows == groups.rows);  // absolute rows of the whole buffers
    CHECK(g.offsets.data_handle() == groups.offsets.data_handle());
    CHECK(g.counts.data_handle() == groups.counts.data_handle());
    CHECK(g.experts() == g.last - g.first);
    calls.emplace_back(g.first, g.last);
  });
  return calls;
}

}  // namespace

TEST_CASE("the plan's groups are its experts' live rows, in both layouts")
{
  std::mt19937 rng(1);
  Routes const r     = random_routes(rng, 65, 7, 2, Spread::few);
  auto const routing = moe::test::to_routing<float>(exec, r);
  moe::DropByPosition const policy{moe::FixedCapacity{20}};
  for (auto const layout : {SlotLayout::compact, SlotLayout::padded}) {
    auto const plan   = moe::test::plan_of(exec, policy, layout, r, routing);
    auto const groups = plan.groups();
    CHECK(groups.first == 0);
    CHECK(groups.last == 7);
    CHECK(groups.rows == (layout == SlotLayout::padded ? 7 * 20 : 130));
    CHECK(plan.rows() == groups.rows);
    std::vector<int> seen(r.assignments(), 0);
    for (Id e = 0; e < 7; ++e) {
      index_t asked = 0;
      for (Id const to : r.expert) {
        asked += to == e;
      }
      CHECK(groups.end(e) - groups.begin(e) == std::min<index_t>(asked, 20));
      for (index_t s = groups.begin(e); s < groups.end(e); ++s) {
        auto const a = static_cast<std::size_t>(plan.assignment_at.const_view()(s));
        CHECK(r.expert[a] == e);
        ++seen[a];
      }
    }
    for (std::size_t a = 0; a < r.assignments(); ++a) {
      CHECK(seen[a] == (plan.slot_of.const_view()(static_cast<index_t>(a)) >= 0 ? 1 : 0));
    }
  }
}

TEST_CASE("a schedule calls for every expert once, in order")
{
  moe::RowGroups<Host> groups{{}, {}, 12, 2, 5};  // a chunk: experts 2, 3, 4
  CHECK((calls_of(moe::SerialSchedule{}, groups) == std::vector<Range>{{2, 3}, {3, 4}, {4, 5}}));
  CHECK((calls_of(moe::BatchedSchedule{}, groups) == std::vector<Range>{{2, 5}}));
  CHECK((calls_of(moe::PaddedSchedule{}, groups) == std::vector<Range>{{2, 5}}));
  CHECK((calls_of(moe::AutomaticBatch{}, groups) == std::vector<Range>{{2, 5}}));
  groups.last = 2;
  CHECK(calls_of(moe::SerialSchedule{}, groups).empty());
}

TEST_CASE("a schedule's slots suit the capacity policy")
{
  using Bounded = moe::DropByPosition<>;
  CHECK(moe::SerialSchedule::layout<Bounded> == SlotLayout::compact);
  CHECK(moe::BatchedSchedule::layout<Bounded> == SlotLayout::compact);
  CHECK(moe::PaddedSchedule::layout<Bounded> == SlotLayout::padded);
  CHECK(moe::AutomaticBatch::layout<Bounded> == SlotLayout::padded);
  CHECK(moe::AutomaticBatch::layout<moe::Dropless> == SlotLayout::compact);
  static_assert(moe::NeedsCapacity<moe::PaddedSchedule>);
  static_assert(!moe::NeedsCapacity<moe::AutomaticBatch>);
  static_assert(!moe::NeedsCapacity<moe::SerialSchedule>);
}

TEST_CASE("rows are read through their index; -1 is a row of zeros")
{
  std::vector<float> const base = {0, 1, 2, 10, 11, 12, 20, 21, 22};
  std::vector<Id> const index   = {2, -1, 0, 2};
  moe::View<float const, 2, Host> const x(base.data(), 3, 3);
  moe::IndexedRows<float, Host> const gathered{x, moe::View<Id const, 1, Host>(index.data(), 4)};
  CHECK(gathered.columns() == 3);
  CHECK(gathered.row(0) == base.data() + 6);
  CHECK(gathered.row(1) == nullptr);
  CHECK(gathered.row(2) == base.data());
  CHECK(gathered.row(3)[2] == 22);
  moe::IndexedRows<float, Host> const plain{x, {}};
  for (index_t i = 0; i < 3; ++i) {
    CHECK(plain.row(i) == base.data() + 3 * i);
  }
}
