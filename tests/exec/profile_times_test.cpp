// A profiler's arithmetic on intervals made by hand, and what its report looks like.
#include <moe/exec/profile_text.hpp>
#include <moe/exec/profile_times.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

using moe::Phase, moe::PhaseTime, moe::ProfileReport;
using moe::detail::Interval, moe::detail::ProfileTotals, moe::detail::TimedPhase;

namespace {

constexpr int forward = 0, backward = 1, outside = 3;

std::vector<Interval> united(std::vector<Interval> all)
{
  moe::detail::unite(all);
  return all;
}

}  // namespace

TEST_CASE("unions: sorted, merged where they touch, the empty ones gone")
{
  auto const u = united({{5, 6}, {0, 2}, {1, 3}, {3, 4}, {9, 9}, {8, 7}, {1, 2}});
  REQUIRE(u.size() == 2);
  CHECK(u[0].begin == 0);
  CHECK(u[0].end == 4);
  CHECK(u[1].begin == 5);
  CHECK(u[1].end == 6);
  CHECK(moe::detail::length_of(u) == 5);
  CHECK(united({}).empty());
}

TEST_CASE("overlaps of unions: by hand, and as counted millisecond by millisecond")
{
  using moe::detail::overlap_of;
  CHECK(overlap_of({{0, 4}, {6, 8}}, {{3, 7}}) == 2);
  CHECK(overlap_of({{0, 4}}, {{4, 5}}) == 0);
  CHECK(overlap_of({{0, 9}}, {{1, 2}, {3, 5}}) == 3);
  CHECK(overlap_of({}, {{1, 2}}) == 0);

  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<Interval> lists[2];
    std::vector<int> covered[2] = {std::vector<int>(40), std::vector<int>(40)};
    for (int i = 0; i < 2; ++i) {
      for (auto n = random() % 7; n > 0; --n) {
        auto const begin = random() % 40, end = begin + random() % (40 - begin);
        lists[i].push_back({double(begin), double(end)});
        std::fill(covered[i].data() + begin, covered[i].data() + end, 1);
      }
    }
    auto const a = united(lists[0]), b = united(lists[1]);
    int both = 0;
    for (std::size_t t = 0; t < 40; ++t) {
      both += covered[0][t] * covered[1][t];
    }
    CHECK(overlap_of(a, b) == both);
    CHECK(overlap_of(b, a) == both);
    CHECK(moe::detail::length_of(a) == std::count(covered[0].begin(), covered[0].end(), 1));
  }
}

TEST_CASE("a phase's time is its own, and all phases of a pass add up to it")
{
  ProfileTotals totals;
  totals.add({{Phase::forward, forward, -1, 0, 100},
              {Phase::router, forward, 0, 10, 30},
              {Phase::losses, forward, 1, 12, 17},
              {Phase::dispatch, forward, 0, 30, 60},
              {Phase::communication, forward, 3, 35, 45},
              {Phase::communication, forward, 3, 45, 50},
              {Phase::experts, forward, 0, 70, 90}});
  auto const r = totals.report();
  CHECK(r.steps == 1);
  CHECK(r.router_ms == 15);
  CHECK(r.of(Phase::losses).ms == 5);
  CHECK(r.dispatch_ms == 15);
  CHECK(r.of(Phase::communication).ms == 15);
  CHECK(r.of(Phase::communication).calls == 2);
  CHECK(r.experts_ms == 20);
  CHECK(r.times[forward][moe::stage_phases].ms == 30);
  CHECK(r.of(Phase::forward).ms == 100);
  CHECK(r.of(Phase::forward).calls == 1);
  CHECK(r.of(Phase::forward, Phase::experts).ms == 20);
  CHECK(r.of(Phase::backward, Phase::experts).ms == 0);
  // On one stream nothing runs at the same time, though the dispatch has communication within it.
  CHECK(r.overlap == 0);
  CHECK(r.communication_ms == 15);
  CHECK(r.computation_ms == 55);
  CHECK(r.communication_to_computation == 15. / 55);
}

TEST_CASE("streams side by side: overlap and ratio are of what runs at the same time")
{
  // Communication runs on two streams in [10, 50], experts in [0, 20] and [40, 45].
  ProfileTotals totals;
  std::vector<TimedPhase> const step = {{Phase::forward, forward, -1, 0, 100},
                                        {Phase::experts, forward, 0, 0, 20},
                                        {Phase::communication, forward, -1, 10, 30},
                                        {Phase::communication, forward, -1, 25, 50},
                                        {Phase::experts, forward, 0, 40, 45}};
  totals.add(step);
  CHECK(totals.report().communication_ms == 40);
  CHECK(totals.report().overlap == 15. / 40);
  CHECK(totals.report().communication_to_computation == 40. / 25);
  CHECK(totals.report().of(Phase::communication).ms == 45);  // a sum over streams

  // A step without communication halves the means, and takes nothing from the overlap.
  totals.add({{Phase::backward, backward, -1, 0, 10}, {Phase::experts, backward, 0, 0, 10}});
  auto const r = totals.report();
  CHECK(r.steps == 2);
  CHECK(r.communication_ms == 20);
  CHECK(r.overlap == 15. / 40);
  CHECK(r.experts_ms == 17.5);
  CHECK(r.of(Phase::experts).calls == 1.5);
  CHECK(r.of(Phase::backward).calls == 0.5);
}

TEST_CASE("a phase of which only an end is known counts for nothing, what is within it does")
{
  ProfileTotals totals;
  totals.add({{Phase::forward, forward, -1, 0, 50},
              {Phase::dispatch, forward, 0, 0, 0, /*whole*/ false},
              {Phase::communication, forward, 1, 20, 30},
              {Phase::combine, outside, -1, 0, 0, /*whole*/ false}});
  auto const r = totals.report();
  CHECK(r.of(Phase::dispatch).calls == 0);
  CHECK(r.of(Phase::combine).calls == 0);
  CHECK(r.communication_ms == 10);
  CHECK(r.of(Phase::forward).ms == 50);
  CHECK(r.dispatch_ms == 0);
}

TEST_CASE("the report as text, CSV and JSON")
{
  ProfileTotals totals;
  totals.add({{Phase::forward, forward, -1, 0, 8},
              {Phase::router, forward, 0, 1, 3},
              {Phase::communication, outside, -1, 20, 22}});
  auto r        = totals.report();
  r.bytes_sent  = 3e6;
  r.arena_bytes = 1536000;
  CHECK(to_text(r) ==
        "ms of a step     forward   outside       all     calls\n"
        "router             2.000               2.000       1.0\n"
        "communication                2.000     2.000       1.0\n"
        "other              6.000               6.000\n"
        "all                8.000     2.000    10.000\n"
        "steps                         1\n"
        "communication                 2.000 ms\n"
        "overlap                       0.0 % of communication\n"
        "communication / computation   1.000\n"
        "sent                          3.000 MB\n"
        "bus bandwidth                 -\n"
        "dropped                       -\n"
        "busiest expert                -\n"
        "memory at most                1.536 MB\n");
  auto const columns = [](std::string const& line) {
    return std::count(line.begin(), line.end(), ',') + 1;
  };
  CHECK(moe::csv_header() ==
        "steps,router_ms,dispatch_ms,experts_ms,combine_ms,communication_ms,overlap,"
        "communication_to_computation,bytes_sent,bus_bandwidth,dropped,load_max_over_mean,"
        "arena_bytes");
  CHECK(to_csv(r) == "1,2,0,0,0,2,0,1,3000000,,,,1536000");
  CHECK(columns(to_csv(r)) == columns(moe::csv_header()));
  auto const json = to_json(r);
  CHECK(json.starts_with("{\"steps\":1,\"router_ms\":2,"));
  CHECK(json.find("\"bus_bandwidth\":null,") != std::string::npos);
  CHECK(json.find("\"forward\":{\"router\":{\"ms\":2,\"calls\":1},") != std::string::npos);
  CHECK(json.find("\"other\":{\"ms\":6,\"calls\":1}}") != std::string::npos);
  CHECK(std::count(json.begin(), json.end(), '{') == std::count(json.begin(), json.end(), '}'));
  // Of nothing: no division by it.
  auto const none = to_text(ProfileTotals{}.report());
  CHECK(none.find("nan") == std::string::npos);
  CHECK(none.find("inf") == std::string::npos);
}
