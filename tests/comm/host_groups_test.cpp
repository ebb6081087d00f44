// Two-level groups: who is with whom, for every placing of ranks on hosts that there is.
#include <moe/comm/host_groups.hpp>
#include <moe/comm/thread_world.hpp>

#include <string>
#include <vector>

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

std::vector<int> members(ThreadCommunicator const& group)
{
  std::vector<int> const me{group.world_rank()};
  std::vector<int> all(static_cast<std::size_t>(group.size()));
  group.all_gather(host(), as_view(me), as_view(all));
  return all;
}

// A naive reading of the contract, from the host (any number) of each rank.
struct Expected {
  std::vector<int> in_host, across;  // of rank `me`
  int host = 0, local_index = 0, hosts = 0;
  bool even = true;
};
Expected expected(std::vector<int> const& on, int me)
{
  Expected e;
  int const P      = static_cast<int>(on.size());
  auto const at    = [&](int r) { return on[static_cast<std::size_t>(r)]; };
  auto const place = [&](int r) {  // how many of its host come before it
    int n = 0;
    for (int q = 0; q < r; ++q) {
      n += at(q) == at(r);
    }
    return n;
  };
  auto const ranks_of = [&](int r) {
    int n = 0;
    for (int q = 0; q < P; ++q) {
      n += at(q) == at(r);
    }
    return n;
  };
  e.local_index = place(me);
  bool before   = true;
  for (int r = 0; r < P; ++r) {
    before = before && at(r) != at(me);
    e.hosts += place(r) == 0;
    e.host += before && place(r) == 0;
    e.even = e.even && ranks_of(r) == ranks_of(0);
    if (at(r) == at(me)) { e.in_host.push_back(r); }
  }
  for (int first = 0; first < P; ++first) {  // hosts in the order of their first ranks
    if (place(first) != 0) { continue; }
    for (int r = first; r < P; ++r) {
      if (at(r) == at(first) && place(r) == e.local_index) { e.across.push_back(r); }
    }
  }
  return e;
}

void check(ThreadCommunicator const& comm,
           TwoLevel<ThreadCommunicator> const& two,
           std::vector<int> const& on)
{
  Expected const e = expected(on, comm.rank());
  CHECK(two.host == e.host);
  CHECK(two.local_index == e.local_index);
  CHECK(two.groups.hosts() == e.hosts);
  CHECK(two.even() == e.even);
  CHECK(members(two.in_host) == e.in_host);
  CHECK(members(two.across) == e.across);
  CHECK(two.in_host.rank() == e.local_index);
  CHECK(e.across[static_cast<std::size_t>(two.across.rank())] == comm.rank());
  if (e.even) { CHECK(two.across.rank() == e.host); }
}

// Every way to put P ranks on hosts, up to the hosts' names: 1, 2, 5, 15, 52 ...
void for_each_placing(int P, std::vector<int>& on, std::vector<std::vector<int>>& all)
{
  if (static_cast<int>(on.size()) == P) {
    all.push_back(on);
    return;
  }
  int next = 0;
  for (int const h : on) {
    next = std::max(next, h + 1);
  }
  for (int h = 0; h <= next; ++h) {
    on.push_back(h);
    for_each_placing(P, on, all);
    on.pop_back();
  }
}

}  // namespace

TEST_CASE("every placing of 1 to 8 ranks on hosts, found by their names")
{
  for (int P = 1; P <= 8; ++P) {
    std::vector<int> on;
    std::vector<std::vector<int>> placings;
    for_each_placing(P, on, placings);
    // All up to P = 5 (52); beyond, the first, the last and some between (4140 for P = 8).
    std::size_t const step = placings.size() <= 60 ? 1 : placings.size() / 30;
    ThreadWorld(P, long_deadline).run([&](ThreadCommunicator const& comm) {
      for (std::size_t i = 0; i < placings.size(); i += step) {
        auto const& where = placings[i];
        int const mine    = where[static_cast<std::size_t>(comm.rank())];
        check(comm,
              two_level(host(), comm, host_name("node" + std::to_string(mine) + ".cluster")),
              where);
      }
      auto const& apart = placings.back();
      int const mine    = apart[static_cast<std::size_t>(comm.rank())];
      check(comm, two_level(host(), comm, host_name(std::to_string(mine))), apart);
    });
  }
}

TEST_CASE("by hand: every divisor, and what is none refused on every rank")
{
  for (int P = 1; P <= 8; ++P) {
    for (int n = -1; n <= P + 1; ++n) {
      CAPTURE(P);
      CAPTURE(n);
      bool const good = n >= 1 && P % n == 0;
      auto const end =
          run_to_end(ThreadWorld(P, long_deadline), [&](ThreadCommunicator const& comm) {
            std::vector<int> on;
            for (int r = 0; r < P; ++r) {
              on.push_back(good ? r / n : 0);
            }
            check(comm, two_level(host(), comm, n), on);
          });
      for (auto const& e : end.ranks) {
        if (good) {
          CHECK(e.kind == RankEnd::returned);
        } else {
          CHECK(e.kind == RankEnd::other);  // a ValueError of its own, not a peer's
          CHECK(e.text.find("moe::two_level: ranks per host is " + std::to_string(n)) == 0);
        }
      }
    }
  }
}

TEST_CASE("ranks that give different numbers by hand: the one at fault, on every rank")
{
  auto const end = run_to_end(ThreadWorld(4, long_deadline), [](ThreadCommunicator const& comm) {
    (void)two_level(host(), comm, comm.rank() == 2 ? 4 : 2);
  });
  for (auto const& e : end.ranks) {
    CHECK(e.kind == RankEnd::communication);
    CHECK(e.rank == 2);
    CHECK(e.text.find("ranks per host is 4") != std::string::npos);
  }
}

TEST_CASE("threads of one process are on one host")
{
  ThreadWorld(3, long_deadline).run([](ThreadCommunicator const& comm) {
    auto const two = two_level(host(), comm);
    CHECK(two.groups.hosts() == 1);
    CHECK(two.even());
    CHECK(members(two.in_host) == std::vector<int>{0, 1, 2});
    CHECK(two.across.size() == 1);
  });
  auto const alone = two_level(host(), SelfCommunicator{});
  CHECK(alone.host == 0);
  CHECK(alone.even());
  CHECK(this_host() == this_host());
}

TEST_CASE("names that are long, or alike where they are cut, are told apart")
{
  std::string const longest(200, 'n');
  CHECK(host_name(longest + "1") == host_name(longest + "1"));
  CHECK_FALSE(host_name(longest + "1") == host_name(longest + "2"));
  CHECK_FALSE(host_name("") == host_name(std::string_view("\0", 1)));
  CHECK_FALSE(host_name("a") == host_name("b"));
}

// A sum in the host, then across, is the sum over all where every host has as many ranks.
TEST_CASE("a sum in two levels is the sum over all ranks")
{
  for (int n : {1, 2, 4, 8}) {
    ThreadWorld(8, long_deadline).run([&](ThreadCommunicator const& comm) {
      auto const two = two_level(host(), comm, host_name(std::to_string(comm.rank() % (8 / n))));
      REQUIRE(two.even());
      std::vector<Id> x{1 << comm.rank()};
      two.in_host.all_reduce_sum(host(), as_view(x));
      two.across.all_reduce_sum(host(), as_view(x));
      CHECK(x[0] == 255);
    });
  }
}
