// Groups made by split: who is in them, in which order, nested, and what a failure in one does.
#include <moe/comm/thread_world.hpp>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"

using namespace moe;
using namespace moe::test;

namespace {

ThreadWorldOptions const long_deadline{.deadline = std::chrono::seconds(60)};

Host host()
{
  return Host{{.threads = 1}};
}

// World ranks in the order of the group's ranks.
std::vector<int> members(ThreadCommunicator const& group)
{
  std::vector<int> const me{group.world_rank()};
  std::vector<int> all(static_cast<std::size_t>(group.size()));
  group.all_gather(host(), as_view(me), as_view(all));
  return all;
}

}  // namespace

TEST_CASE("groups are the ranks of a color, ordered by key, ties by rank")
{
  for (int P = 1; P <= 8; ++P) {
    for (int colors = 1; colors <= P; ++colors) {
      CAPTURE(P);
      CAPTURE(colors);
      ThreadWorld(P, long_deadline).run([&](ThreadCommunicator const& comm) {
        int const me     = comm.rank();
        auto const color = [&](int r) { return 5 * (r % colors); };
        auto const key   = [](int r) { return -(r / 3); };  // by threes, the last first
        auto const group = comm.split(color(me), key(me));
        std::vector<int> expected;
        for (int k = key(P - 1); k <= 0; ++k) {
          for (int r = 0; r < P; ++r) {
            if (key(r) == k && color(r) == color(me)) { expected.push_back(r); }
          }
        }
        CHECK(members(group) == expected);
        CHECK(expected[static_cast<std::size_t>(group.rank())] == me);
        CHECK(comm.rank() == me);  // and the world is as before
        CHECK(comm.size() == P);
        CHECK(members(comm).back() == P - 1);
      });
    }
  }
}

// Hosts of two ranks, and the ranks of one place on all hosts: a two-level all-reduce.
TEST_CASE("nested groups, used in turn with the world, count for themselves")
{
  ThreadWorld(8, long_deadline).run([](ThreadCommunicator const& comm) {
    auto const in_host = comm.split(comm.rank() / 2, comm.rank());
    auto const across  = comm.split(comm.rank() % 2, comm.rank());
    auto const half    = across.split(across.rank() / 2, -across.rank());
    CHECK(members(in_host) == std::vector<int>{comm.rank() / 2 * 2, comm.rank() / 2 * 2 + 1});
    CHECK(across.size() == 4);
    int const first = comm.rank() / 4 * 4 + comm.rank() % 2;
    CHECK(members(half) == std::vector<int>{first + 2, first});
    for (int i = 0; i < 20; ++i) {
      std::vector<Id> x{comm.rank() + i}, y = x;
      for (int j = 0; j <= comm.rank() / 2; ++j) {  // some hosts use their group more than others
        std::vector<Id> z{1};
        in_host.all_reduce_sum(host(), as_view(z));
        CHECK(z[0] == 2);
      }
      in_host.all_reduce_sum(host(), as_view(x));
      across.all_reduce_sum(host(), as_view(x));
      comm.all_reduce_sum(host(), as_view(y));
      CHECK(x == y);
      std::vector<Id> z{half.rank()};
      half.all_reduce_sum(host(), as_view(z));
      CHECK(z[0] == 1);
    }
  });
}

TEST_CASE("a group outlives the world's handle and the group it was split from")
{
  auto const group_of = [](ThreadCommunicator const& comm) {
    return comm.split(0, 0).split(0, -comm.rank());
  };
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  {
    ThreadWorld const world(3, long_deadline);
    for (int r = 0; r < 3; ++r) {
      threads.emplace_back([&, comm = world.communicator(r)]() mutable {
        comm = group_of(comm);
        right += members(comm) == std::vector<int>{2, 1, 0};
      });
    }
  }
  for (auto& t : threads) {
    t.join();
  }
  CHECK(right == 3);
}

TEST_CASE("a failure in one group ends those who wait in another")
{
  for (int failing = 0; failing < 4; ++failing) {
    auto const end = run_to_end(ThreadWorld(4, long_deadline), [&](ThreadCommunicator const& comm) {
      auto const pair = comm.split(comm.rank() / 2, 0);
      (void)members(pair);
      if (comm.rank() == failing) { throw std::runtime_error("the cause"); }
      if (comm.rank() / 2 == failing / 2) { (void)members(pair); }
      (void)members(comm);
    });
    for (int r = 0; r < 4; ++r) {
      auto const& e = end.ranks[static_cast<std::size_t>(r)];
      if (r == failing) { continue; }
      CHECK(e.kind == RankEnd::communication);
      CHECK(e.rank == failing);
      CHECK(e.text.find("the cause") != std::string::npos);
      CHECK(e == end.ranks[failing == 0 ? 1 : 0]);
    }
  }
}

TEST_CASE("a rank missing in a nested group: the timeout has the group and the world's ranks")
{
  ThreadWorld const alone(4, {.deadline = std::chrono::milliseconds(700)});
  auto const inner = run_to_end(alone, [](ThreadCommunicator const& comm) {
    auto const all  = comm.split(7, -comm.rank());
    auto const pair = all.split(all.rank() % 2, 0);  // world ranks 3 1, and 2 0
    if (comm.rank() == 1) { return; }
    if (comm.rank() == 3) { (void)members(pair); }
  });
  CHECK(inner.thrown.missing == std::vector<int>{1});
  CHECK(
      inner.thrown.text ==
      "moe::ThreadCommunicator::all_gather: arrival of rank 1 at sequence 1 of group 0 of the "
      "split at sequence 1 of group 7 of the split at sequence 1 is missing after 700 ms, must be "
      "within the deadline [rank 1]");
}
