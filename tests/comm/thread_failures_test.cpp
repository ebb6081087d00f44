// A rank that fails: every rank ends with the first cause.
#include <moe/comm/thread_world.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"

using namespace moe;
using namespace moe::test;
using std::chrono::milliseconds;

namespace {

std::string const prefix = "moe::ThreadCommunicator::";

// Longer than anything here takes: whoever ends before it was not ended by it.
ThreadWorldOptions const long_deadline{.deadline = std::chrono::seconds(60)};

Host host()
{
  return Host{{.threads = 1}};
}

// Eight collectives; before(step) is called before each. Results are checked.
constexpr int steps                      = 8;
constexpr char const* operation_before[] = {
    "moe::ThreadWorld",
    "moe::ThreadCommunicator::all_reduce_sum",
    "moe::ThreadCommunicator::all_gather",
    "moe::ThreadCommunicator::reduce_scatter_sum",
    "moe::ThreadCommunicator::all_to_all",
    "moe::ThreadCommunicator::all_to_all_v",
    "moe::ThreadCommunicator::split",
    "moe::ThreadCommunicator::all_gather"};  // in the group: its first
constexpr std::uint64_t sequence_before[] = {0, 1, 2, 3, 4, 5, 6, 1};

template <class Before>
void run_steps(ThreadCommunicator const& comm, Before const& before)
{
  Host const exec = host();
  int const P = comm.size(), me = comm.rank();
  index_t const n = 300;
  std::vector<Id> one(static_cast<std::size_t>(n), me), all(static_cast<std::size_t>(P * n), me);
  std::vector<Id> sum = one, gathered(all.size()), part(one.size());
  Id const total      = P * (P - 1) / 2;

  before(0);
  comm.all_reduce_sum(exec, as_view(sum));
  CHECK(sum == std::vector<Id>(sum.size(), total));
  before(1);
  comm.all_gather(exec, as_view(std::as_const(one)), as_view(gathered));
  CHECK(gathered[static_cast<std::size_t>(n * (P - 1))] == P - 1);
  before(2);
  comm.reduce_scatter_sum(exec, as_view(std::as_const(all)), as_view(part));
  CHECK(part == std::vector<Id>(part.size(), total));
  before(3);
  comm.all_to_all(exec, as_view(std::as_const(all)), as_view(gathered));
  CHECK(gathered[static_cast<std::size_t>(n * (P - 1))] == P - 1);
  before(4);
  std::vector<index_t> counts_of_ranks, mine;
  for (int r = 0; r < P; ++r) {
    counts_of_ranks.push_back(r * 10);
    mine.push_back(me * 10);
  }
  Counts const to(mine), from(counts_of_ranks);
  std::vector<Id> rows(static_cast<std::size_t>(to.total), me);
  std::vector<Id> arrived(static_cast<std::size_t>(from.total), -1);
  comm.all_to_all_v(
      exec, as_view(std::as_const(rows)), to.blocks(), as_view(arrived), from.blocks());
  CHECK(std::is_sorted(arrived.begin(), arrived.end()));
  before(5);
  auto const group = comm.split(me % 2, -me);
  CHECK(group.size() == (P + 1 - me % 2) / 2);
  before(6);
  std::vector<Id> members(static_cast<std::size_t>(group.size()));
  std::vector<Id> const myself{me};
  group.all_gather(exec, as_view(myself), as_view(members));
  CHECK(std::is_sorted(members.rbegin(), members.rend()));
  before(7);
  std::vector<Id> last{1};
  comm.all_reduce_sum(exec, as_view(last));
  CHECK(last[0] == P);
}

}  // namespace

TEST_CASE("fault matrix: a rank that throws before any step ends all ranks with its cause")
{
  int tried = 0, survived = 0;
  std::vector<double> seconds;
  for (int P = 2; P <= 8; ++P) {
    for (int failing = 0; failing < P; ++failing) {
      for (int step = 0; step < steps; ++step) {
        CAPTURE(P);
        CAPTURE(failing);
        CAPTURE(step);
        std::string const cause =
            "rank " + std::to_string(failing) + " stops at step " + std::to_string(step);
        auto const end = run_to_end(ThreadWorld(P, long_deadline), [&](auto const& comm) {
          run_steps(comm, [&](int s) {
            if (s == step && comm.rank() == failing) { throw std::runtime_error(cause); }
          });
        });
        bool good      = end.thrown.kind == RankEnd::other && end.thrown.text == cause;
        for (int r = 0; r < P; ++r) {
          RankEnd const& e     = end.ranks[static_cast<std::size_t>(r)];
          RankEnd const& other = end.ranks[failing == 0 ? 1 : 0];
          if (r == failing) {
            good = good && e == end.thrown;
            continue;
          }
          good = good && e.kind == RankEnd::communication && e == other && e.rank == failing &&
                 e.operation == operation_before[step] && e.sequence == sequence_before[step] &&
                 e.text.find(cause) != std::string::npos;
        }
        CHECK(good);
        CHECK(end.seconds < 30);
        ++tried;
        survived += good;
        seconds.push_back(end.seconds);
      }
    }
  }
  MESSAGE("fault points tried ", tried, ", ended on all ranks with the root cause ", survived);
  std::sort(seconds.begin(), seconds.end());
  auto const ms = [&](std::size_t percent) {
    return 1e3 * seconds[(seconds.size() - 1) * percent / 100];
  };
  MESSAGE("ms from the start of a world to the end of its last rank: p50 ",
          ms(50),
          ", p99 ",
          ms(99),
          ", max ",
          ms(100));
  CHECK(tried == 35 * steps);
}

TEST_CASE("without a fault the steps are exact, over and over, in one world")
{
  for (int P = 1; P <= 8; ++P) {
    ThreadWorld const world(P, long_deadline);
    for (int repeat = 0; repeat < 3; ++repeat) {
      auto const end = run_to_end(world, [](auto const& comm) { run_steps(comm, [](int) {}); });
      CHECK(end.thrown == RankEnd{});
    }
  }
}

TEST_CASE("the root cause beats its consequences: one throws while the others wait")
{
  constexpr int P = 4;
  int good        = 0;
  for (int repeat = 0; repeat < 200; ++repeat) {
    auto const end = run_to_end(ThreadWorld(P, long_deadline), [&](auto const& comm) {
      if (comm.rank() == repeat % P) { throw std::runtime_error("the cause"); }
      std::vector<float> x(10);
      comm.all_reduce_sum(host(), as_view(x));
    });
    bool same      = end.thrown.text == "the cause";
    for (int r = 0; r < P; ++r) {
      auto const& e = end.ranks[static_cast<std::size_t>(r)];
      same          = same && e.text.find("the cause") != std::string::npos &&
             (r == repeat % P || e.rank == repeat % P);
    }
    good += same;
  }
  CHECK(good == 200);
}

TEST_CASE("two ranks that fail at once: all others end with one of the two causes")
{
  for (int repeat = 0; repeat < 50; ++repeat) {
    auto const end = run_to_end(ThreadWorld(6, long_deadline), [&](auto const& comm) {
      if (comm.rank() == 1) { throw std::runtime_error("cause one"); }
      if (comm.rank() == 4) { throw std::logic_error("cause two"); }
      (void)comm.split(0, 0);
    });
    CHECK((end.thrown.text == "cause one" || end.thrown.text == "cause two"));
    for (int const r : {0, 2, 3, 5}) {
      CHECK(end.ranks[static_cast<std::size_t>(r)] == end.ranks[0]);
      CHECK(end.ranks[0].text.find(end.thrown.text) != std::string::npos);
    }
  }
}

// Rank 0 receives nothing, so it is done, and unwinds, while the others still copy what it sent.
// Nobody but the ranks holds the world.
TEST_CASE("a rank unwinds while its peers read 64 MB of it")
{
  constexpr int P     = 3;
  index_t const half  = index_t{32} << 20;
  int complete        = 0;
  constexpr int times = 8;
  for (int repeat = 0; repeat < times; ++repeat) {
    std::vector<std::thread> threads;
    std::atomic<int> exact{0}, ended{0};
    {
      ThreadWorld const world(P, long_deadline);
      for (int r = 0; r < P; ++r) {
        threads.emplace_back([&,
                              comm = std::make_unique<ThreadCommunicator>(
                                  world.communicator(r))]() mutable {
          try {
            RankGuard const guard(*comm);
            auto const mine  = std::exchange(comm, nullptr);
            bool const first = mine->rank() == 0;
            std::vector<char> send(static_cast<std::size_t>(first ? 2 * half : 0), 'x');
            std::vector<char> receive(static_cast<std::size_t>(first ? 0 : half));
            Counts const to(first ? std::vector<index_t>{0, half, half} : std::vector<index_t>(P)),
                from(first ? std::vector<index_t>(P) : std::vector<index_t>{half, 0, 0});
            mine->all_to_all_v(
                host(), as_view(std::as_const(send)), to.blocks(), as_view(receive), from.blocks());
            if (first) { throw std::runtime_error("done with it"); }
            exact +=
                receive[0] == 'x' && std::memcmp(&receive[0], &receive[1], receive.size() - 1) == 0;
            mine->all_reduce_sum(host(), as_view(receive));
          } catch (CommunicationError const& e) {
            ended += e.rank == 0;
          } catch (std::runtime_error const&) {
            ++ended;
          }
        });
      }
    }
    for (auto& t : threads) {
      t.join();
    }
    complete += exact == P - 1 && ended == P;
  }
  CHECK(complete == times);
}

TEST_CASE("a slow rank below the deadline changes nothing")
{
  for (int slow = 0; slow < 3; ++slow) {
    auto const end = run_to_end(ThreadWorld(3, long_deadline), [&](auto const& comm) {
      run_steps(comm, [&](int) {
        if (comm.rank() == slow) { std::this_thread::sleep_for(milliseconds(20)); }
      });
    });
    CHECK(end.thrown == RankEnd{});
  }
}

TEST_CASE("a world that has failed says so again, from every later collective of any group")
{
  ThreadWorld const world(3, long_deadline);
  auto const first = run_to_end(world, [&](auto const& comm) {
    auto const group = comm.split(comm.rank() == 2, 0);
    if (comm.rank() == 2) { throw 7; }
    std::vector<float> x(3);
    CHECK_THROWS_AS(comm.all_reduce_sum(host(), as_view(x)), CommunicationError);
    group.all_reduce_sum(host(), as_view(x));  // of ranks that are well, but of this world
  });
  auto const again = run_to_end(world, [&](auto const& comm) { (void)comm.split(0, 0); });
  CHECK(first.ranks[0].kind == RankEnd::communication);
  CHECK(first.ranks[0].rank == 2);
  CHECK(first.ranks[0].operation == prefix + "split");
  CHECK(first.ranks[0].sequence == 1);
  CHECK(first.ranks[0] == first.ranks[1]);
  for (auto const& e : again.ranks) {
    CHECK(e == first.ranks[0]);
  }
}
