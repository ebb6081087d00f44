// Compile at -O1: many instantiations.
// Small collectives over a window, between ranks that are threads on Host.
#include <moe/comm/window_communicator.hpp>

#include <atomic>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"
#include "support/rank_world.hpp"

using namespace moe;
using namespace moe::test;
using std::chrono::milliseconds;

namespace {

using Small = WindowCommunicator<ThreadCommunicator, Host>;

ThreadWorldOptions const patient{.deadline = std::chrono::seconds(60)};

Host one_thread()
{
  return Host({.threads = 1});
}

// Integers that wrap around in sums, or reals whose sums depend on their order.
template <class T>
std::vector<T> values(int rank, int round, index_t n)
{
  std::vector<T> v;
  for (index_t i = 0; i < n; ++i) {
    auto const k = (rank * 31 + i * 7 + round * 13 + 3) % 19;
    if constexpr (std::is_integral_v<T>) {
      v.push_back(static_cast<T>(static_cast<std::uint64_t>(k) * 0x1234567890abcdefULL));
    } else {
      v.push_back(static_cast<T>(static_cast<float>(k) / 7.f - 1.f));
    }
  }
  return v;
}
template <class T>
bool same(std::vector<T> const& a, std::vector<T> const& b)
{
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// The three collectives of n elements, over the window and over the inner communicator.
template <class T>
int mistakes(Small const& small, Host const& exec, int round, index_t n)
{
  int const P         = small.size();
  int wrong           = 0;
  auto const& inner   = small.inner();
  auto const part     = values<T>(small.rank(), round, n);
  auto const parts    = values<T>(small.rank(), round + 1, P * n);
  auto const reserved = static_cast<std::size_t>(P * n);
  std::vector<T> sum = part, expected_sum = part;
  small.all_reduce_sum(exec, as_view(sum));
  inner.all_reduce_sum(exec, as_view(expected_sum));
  wrong += same(sum, expected_sum) ? 0 : 1;
  std::vector<T> got(reserved, T(1)), expected(reserved, T(2));
  small.all_gather(exec, as_view(part), as_view(got));
  inner.all_gather(exec, as_view(part), as_view(expected));
  wrong += same(got, expected) ? 0 : 1;
  small.all_to_all(exec, as_view(parts), as_view(got));
  inner.all_to_all(exec, as_view(parts), as_view(expected));
  wrong += same(got, expected) ? 0 : 1;
  return wrong;
}

}  // namespace

TEST_CASE_TEMPLATE("results and bits are the inner communicator's, round after round",
                   T,
                   float,
                   double,
                   BFloat16,
                   Id,
                   index_t,
                   std::uint8_t)
{
  for (int const P : {1, 2, 3, 4, 8}) {
    CAPTURE(P);
    ThreadWorld(P, patient).run([](ThreadCommunicator const& comm) {
      Host const exec = one_thread();
      WindowCommunicator const small(exec, comm, {.bytes = 1200});
      auto const limit = static_cast<index_t>(1200 / sizeof(T));
      int wrong = 0, round = 0;
      for (int repeat = 0; repeat < 5; ++repeat) {
        for (index_t const n : {index_t{0}, index_t{1}, index_t{7}, limit, limit + 1, 2 * limit}) {
          wrong += mistakes<T>(small, exec, ++round, n);
        }
      }
      CHECK(wrong == 0);
    });
  }
}

// An inner communicator that takes note would see every collective that goes there.
TEST_CASE("what is small goes over the window, the rest does not")
{
  ThreadWorld(3, patient).run([](ThreadCommunicator const& comm) {
    Host const exec = one_thread();
    RecordingCommunicator const recorded(comm);
    WindowCommunicator const small(exec, recorded, {.bytes = 40});
    auto const calls = [&] { return recorded.calls().size(); };
    REQUIRE(calls() == 1);  // the window
    std::vector<float> ten(10, 1.f), thirty(30, 1.f), other(30), more(33);
    small.all_reduce_sum(exec, as_view(ten));
    small.all_gather(exec, as_view(ten), as_view(thirty));
    small.all_to_all(exec, as_view(thirty), as_view(other));
    CHECK(calls() == 1);
    CHECK(other == std::vector<float>(30, 3.f));
    small.all_reduce_sum(exec, as_view(more));
    CHECK(calls() == 2);
    small.reduce_scatter_sum(exec, as_view(thirty), as_view(ten));
    CHECK(calls() == 3);
    CHECK(ten == std::vector<float>(10, 9.f));
    Counts const one(std::vector<index_t>(3, 1));
    small.all_to_all_v(exec, as_view(thirty), one.blocks(), as_view(ten), one.blocks());
    CHECK(calls() == 4);
    CHECK(small.window(exec, 8).bytes() == 8);
    CHECK(calls() == 5);
  });
}

TEST_CASE("ranks that are late, copies of a handle, and groups with windows of their own")
{
  ThreadWorld(4, patient).run([](ThreadCommunicator const& comm) {
    Host const exec = one_thread();
    WindowCommunicator const small(exec, comm);
    auto const pair = small.split(comm.rank() % 2, -comm.rank());
    CHECK(pair.size() == 2);
    CHECK(pair.rank() == 1 - comm.rank() / 2);
    CHECK(pair.world_rank() == comm.rank());
    int wrong = 0;
    for (int round = 0; round < 60; ++round) {
      if ((round * 7 + comm.rank() * 5) % 11 == 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(400));
      }
      auto const copy = round % 2 == 0 ? small : pair;
      std::vector<Id> x{round, comm.rank()};
      copy.all_reduce_sum(exec, as_view(x));
      int const P = copy.size();
      wrong += x[0] == P * round && x[1] == (P == 4 ? 6 : 2 + 2 * (comm.rank() % 2)) ? 0 : 1;
    }
    CHECK(wrong == 0);
    CHECK_NOTHROW(small.check());
    CHECK_NOTHROW(small.wait(exec));
  });
}

TEST_CASE("a rank that throws ends the others with its cause")
{
  for (int const P : {2, 4}) {
    for (int failing = 0; failing < P; ++failing) {
      CAPTURE(P);
      CAPTURE(failing);
      auto const end = run_to_end(ThreadWorld(P, patient), [&](ThreadCommunicator const& comm) {
        Host const exec = one_thread();
        WindowCommunicator const small(exec, comm);
        for (int round = 0; round < 10; ++round) {
          if (round == 5 && comm.rank() == failing) { throw std::runtime_error("out of luck"); }
          std::vector<float> x(9, 1.f);
          small.all_reduce_sum(exec, as_view(x));
        }
      });
      CHECK(end.seconds < 10);
      for (int r = 0; r < P; ++r) {
        auto const& e = end.ranks[static_cast<std::size_t>(r)];
        CHECK(e.text.find("out of luck") != std::string::npos);
        CHECK(e.kind == (r == failing ? RankEnd::other : RankEnd::communication));
      }
    }
  }
}

TEST_CASE("a rank that never comes: a timeout that names it")
{
  auto const end = run_to_end(ThreadWorld(3, patient), [](ThreadCommunicator const& comm) {
    Host const exec = one_thread();
    WindowCommunicator const small(exec, comm, {.deadline = milliseconds(100)});
    if (comm.rank() == 1) { return; }
    std::vector<float> x(9, 1.f);
    small.all_reduce_sum(exec, as_view(x));
  });
  CHECK(end.thrown.kind == RankEnd::timeout);
  CHECK(end.thrown.missing == std::vector<int>{1});
}

TEST_CASE("ranks whose calls differ are told so")
{
  auto const refused = [](auto const& odd_call) {
    auto const end = run_to_end(ThreadWorld(3, patient), [&](ThreadCommunicator const& comm) {
      Host const exec = one_thread();
      WindowCommunicator const small(exec, comm);
      std::vector<float> x(9, 1.f);
      small.all_reduce_sum(exec, as_view(x));
      if (comm.rank() == 1) {
        odd_call(small, exec);
      } else {
        small.all_reduce_sum(exec, as_view(x));
      }
      small.all_reduce_sum(exec, as_view(x));
    });
    CHECK(end.thrown.kind == RankEnd::communication);
    CHECK_MESSAGE(
        end.thrown.text.find("another collective, or of another size") != std::string::npos,
        end.thrown.text);
    for (RankEnd const& e : end.ranks) {
      CHECK(e.kind == RankEnd::communication);
    }
  };
  refused([](Small const& small, Host const& exec) {
    std::vector<float> x(8, 1.f);
    small.all_reduce_sum(exec, as_view(x));
  });
  refused([](Small const& small, Host const& exec) {
    std::vector<Id> x(9, 1);
    small.all_reduce_sum(exec, as_view(x));
  });
  refused([](Small const& small, Host const& exec) {
    std::vector<float> x(9, 1.f), all(27);
    small.all_gather(exec, as_view(x), as_view(all));
  });
}

TEST_CASE("what one rank can see is refused there, and it can go on")
{
  ThreadWorld(2, patient).run([](ThreadCommunicator const& comm) {
    Host const exec = one_thread();
    CHECK_THROWS_AS(WindowCommunicator(exec, comm, {.bytes = std::size_t{2} << 30}), ValueError);
    CHECK_THROWS_AS(WindowCommunicator(exec, comm, {.deadline = milliseconds(-1)}), ValueError);
    WindowCommunicator const small(exec, comm);
    std::vector<float> a(6, 1.f), c(5);
    CHECK_THROWS_AS(small.all_gather(exec, as_view(a), as_view(c)), ShapeError);
    CHECK_THROWS_AS(small.all_to_all(exec, as_view(a), as_view(c)), ShapeError);
    CHECK_THROWS_AS(small.all_to_all(exec, as_view(a), as_view(a)), AliasError);
    CHECK_THROWS_AS(small.all_reduce_sum(exec, View<float, 1, Host>(nullptr, 3)), ValueError);
    small.all_reduce_sum(exec, as_view(a));
    CHECK(a == std::vector<float>(6, 2.f));
  });
}

TEST_CASE("a world of one, of its type or in number")
{
  Host const exec = one_thread();
  WindowCommunicator const alone(exec, SelfCommunicator{});
  std::vector<float> a{-0.f, 3.f}, b(2);
  alone.all_reduce_sum(exec, as_view(a));
  CHECK(std::signbit(a[0]));
  alone.all_gather(exec, as_view(a), as_view(b));
  CHECK(same(a, b));
  b.assign(2, 0.f);
  alone.split(0, 0).all_to_all(exec, as_view(a), as_view(b));
  CHECK(same(a, b));
  CHECK_NOTHROW(alone.wait(exec));
}

TEST_CASE("a profiler sees the bytes that the inner communicator would send")
{
  ThreadWorld(3, patient).run([](ThreadCommunicator const& comm) {
    HostProfiler profiler;
    Host const exec = one_thread().with(profiler);
    WindowCommunicator const small(exec, comm);
    std::vector<float> a(15), b(15), c(5);
    auto const sent = [&](auto const& communicator) {
      std::vector<std::uint64_t> bytes;
      auto const next = [&] {
        auto const report = profiler.report();
        CHECK(report.of(Phase::communication).calls == 1);
        bytes.push_back(static_cast<std::uint64_t>(report.bytes_sent));
        profiler.reset();
      };
      profiler.reset();
      communicator.all_reduce_sum(exec, as_view(a));
      next();
      communicator.all_gather(exec, as_view(c), as_view(b));
      next();
      communicator.all_to_all(exec, as_view(a), as_view(b));
      next();
      return bytes;
    };
    CHECK(sent(small) == sent(comm));
    CHECK(sent(small) == std::vector<std::uint64_t>{80, 40, 40});
  });
}

namespace {

template <class MakeComm>
std::vector<RankPass<float>> passes_over(Batch<float> const& whole, int P, MakeComm const& make)
{
  std::vector<RankPass<float>> passes(static_cast<std::size_t>(P));
  auto const parts = ranks::odd_parts(P);
  ThreadWorld(P, patient).run([&](ThreadCommunicator const& thread) {
    auto const comm = make(thread);
    AllToAllDispatcher const dispatcher(comm);
    auto const r = static_cast<std::size_t>(comm.rank());
    passes[r] =
        run_rank<float>(ranks::layer_of(DropByWeight{CeilCapacity{.factor = 0.6}}, dispatcher),
                        ranks::own(),
                        whole,
                        parts[r],
                        dispatcher.experts_here(whole.sizes.experts));
  });
  return passes;
}

}  // namespace

TEST_CASE("a layer over it has the bits of one over the inner communicator")
{
  auto const whole = ranks::batch<float>(5);
  for (int const P : {1, 2, 3}) {
    CAPTURE(P);
    auto const inner = passes_over(whole, P, [](ThreadCommunicator const& comm) { return comm; });
    for (std::size_t const bytes : {std::size_t{64}, std::size_t{64} << 10}) {
      auto const small = passes_over(whole, P, [&](ThreadCommunicator const& comm) {
        return WindowCommunicator(ranks::own(), comm, {.bytes = bytes});
      });
      CHECK(small == inner);
    }
  }
}
