// Waits: how long, for whom, and by whom.
#include <moe/comm/thread_world.hpp>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"

using namespace moe;
using namespace moe::test;
using std::chrono::milliseconds;

namespace {

Host host()
{
  return Host{{.threads = 1}};
}

}  // namespace

TEST_CASE("ranks that never come: the timeout names operation, sequence number and ranks")
{
  for (auto const& absent : {std::vector<int>{2}, std::vector<int>{0}, std::vector<int>{1, 3}}) {
    ThreadWorld const world(5, {.deadline = milliseconds(700)});
    auto const end = run_to_end(world, [&](auto const& comm) {
      std::vector<float> x(4), all(20);
      comm.all_reduce_sum(host(), as_view(x));
      if (std::count(absent.begin(), absent.end(), comm.rank()) > 0) { return; }
      comm.all_gather(host(), as_view(std::as_const(x)), as_view(all));
    });
    CHECK(end.thrown.kind == RankEnd::timeout);
    CHECK(end.thrown.missing == absent);
    CHECK(end.thrown.rank == absent[0]);
    CHECK(end.thrown.operation == "moe::ThreadCommunicator::all_gather");
    CHECK(end.thrown.sequence == 2);
    std::string const names =
        absent.size() == 2 ? "ranks 1 3" : "rank " + std::to_string(absent[0]);
    CHECK(end.thrown.text.find("arrival of " + names + " at sequence 2 is missing after 700 ms") !=
          std::string::npos);
    for (int r = 0; r < 5; ++r) {
      bool const here = std::count(absent.begin(), absent.end(), r) == 0;
      CHECK(end.ranks[static_cast<std::size_t>(r)] == (here ? end.thrown : RankEnd{}));
    }
    CHECK(end.seconds < 30);
  }
}

// Several ranks time out within microseconds, and what they then throw aborts the world too.
TEST_CASE("the root cause beats its consequences: who times out first speaks for all")
{
  constexpr int P = 4;
  int good        = 0;
  for (int repeat = 0; repeat < 200; ++repeat) {
    int const absent = repeat % P;
    auto const end =
        run_to_end(ThreadWorld(P, {.deadline = milliseconds(4)}), [&](auto const& comm) {
          if (comm.rank() == absent) { return; }
          std::vector<float> x(10);
          comm.all_reduce_sum(host(), as_view(x));
        });
    bool same = end.thrown.kind == RankEnd::timeout &&
                std::count(end.thrown.missing.begin(), end.thrown.missing.end(), absent) == 1;
    for (int r = 0; r < P; ++r) {
      same = same && (r == absent || end.ranks[static_cast<std::size_t>(r)] == end.thrown);
    }
    good += same;
  }
  CHECK(good == 200);
}

TEST_CASE("two threads with one rank: the second is refused, the first is not disturbed")
{
  ThreadWorld const world(2, {.deadline = std::chrono::seconds(60)});
  auto const comm = world.communicator(0);
  std::atomic<int> refused{0}, exact{0};
  auto const reduce = [&](ThreadCommunicator const& c) {
    std::vector<Id> x{1};
    try {
      c.all_reduce_sum(host(), as_view(x));
      exact += x[0] == 2;
    } catch (StateError const&) {
      ++refused;
    }
  };
  std::thread a([&] { reduce(comm); }), b([&] { reduce(comm); });
  while (refused == 0) {
    std::this_thread::yield();
  }
  reduce(world.communicator(1));
  a.join();
  b.join();
  CHECK(refused == 1);
  CHECK(exact == 2);
}
