// Every collective of every communicator against a plain computation over all ranks' buffers.
#include <moe/comm/thread_world.hpp>

#include <cmath>
#include <cstring>
#include <string>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"

using namespace moe;
using namespace moe::test;

namespace {

// What rank r has at i: small integers, so that every sum is exact, or reals, so that it is not.
template <class T>
T value(int r, index_t i)
{
  auto const n = (r * 31 + i * 7 + 3) % 19;
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(n);
  } else {
    return static_cast<T>(static_cast<float>(n) / 7.f - 1.f);
  }
}
template <class T>
std::vector<T> values(int r, index_t n)
{
  std::vector<T> v;
  for (index_t i = 0; i < n; ++i) {
    v.push_back(value<T>(r, i));
  }
  return v;
}
template <class T>
bool same_bits(std::vector<T> const& a, std::vector<T> const& b)
{
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
// sum over ranks, in their order, of element i.
template <class T>
T sum(int P, index_t i)
{
  using S = std::conditional_t<std::is_integral_v<T>, std::int64_t, accumulator_t<T>>;
  S s     = static_cast<S>(value<T>(0, i));
  for (int r = 1; r < P; ++r) {
    s = static_cast<S>(s + static_cast<S>(value<T>(r, i)));
  }
  return static_cast<T>(s);
}

struct Pair {  // an element of no arithmetic
  std::int32_t token;
  float weight;
};

index_t const lengths[] = {0, 1, 5, 1023, 1024, 2500};

ThreadWorldOptions const short_deadline{.deadline = std::chrono::seconds(20)};

// f(communicator) on each rank; the world of one is tried on both models.
template <class F>
void for_each_world(F const& f)
{
  f(SelfCommunicator{});
  for (int P = 1; P <= 8; ++P) {
    CAPTURE(P);
    ThreadWorld const world(P, short_deadline);
    world.run(f);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("sums are those of one loop over the ranks, with the same bits on each",
                   T,
                   float,
                   double,
                   Half,
                   BFloat16,
                   Id,
                   index_t,
                   std::uint8_t)
{
  for_each_world([](auto const& comm) {
    Host const exec{{.threads = 1}};
    int const P = comm.size();
    for (index_t const n : lengths) {
      CAPTURE(n);
      std::vector<T> all, part;
      for (index_t i = 0; i < n; ++i) {
        all.push_back(sum<T>(P, i));
        part.push_back(sum<T>(P, comm.rank() * n + i));
      }
      auto x = values<T>(comm.rank(), n);
      comm.all_reduce_sum(exec, as_view(x));
      CHECK(same_bits(x, all));
      std::vector<T> mine(static_cast<std::size_t>(n), T{});
      comm.reduce_scatter_sum(exec, as_view(values<T>(comm.rank(), P * n)), as_view(mine));
      CHECK(same_bits(mine, part));
    }
  });
}

TEST_CASE("integer sums wrap around, and one rank's negative zero stays one")
{
  ThreadWorld const world(2, short_deadline);
  world.run([](ThreadCommunicator const& comm) {
    Host const exec{{.threads = 1}};
    std::vector<Id> x{2147483647, -5};
    comm.all_reduce_sum(exec, as_view(x));
    CHECK(x == std::vector<Id>{-2, -10});
  });
  ThreadWorld(1).run([](ThreadCommunicator const& comm) {
    std::vector<float> x{-0.f};
    comm.all_reduce_sum(Host{{.threads = 1}}, as_view(x));
    CHECK(std::signbit(x[0]));
  });
}

TEST_CASE_TEMPLATE("all_gather and all_to_all put every block where it belongs", T, float, char, Id)
{
  for_each_world([](auto const& comm) {
    Host const exec{{.threads = 1}};
    int const P = comm.size(), me = comm.rank();
    for (index_t const n : lengths) {
      CAPTURE(n);
      std::vector<T> gathered, exchanged;
      for (int r = 0; r < P; ++r) {
        for (index_t i = 0; i < n; ++i) {
          gathered.push_back(value<T>(r, i));
          exchanged.push_back(value<T>(r, me * n + i));
        }
      }
      std::vector<T> receive(static_cast<std::size_t>(P * n), T{99});
      auto const send = values<T>(me, P * n);
      comm.all_gather(exec, View<T const, 1, Host>(send.data(), n), as_view(receive));
      CHECK(same_bits(receive, gathered));
      comm.all_to_all(exec, as_view(send), as_view(receive));
      CHECK(same_bits(receive, exchanged));
    }
  });
}

// Unequal counts, zeros among them; gaps between the blocks, and blocks in any order.
TEST_CASE("all_to_all_v delivers every element once and writes nothing else")
{
  for_each_world([](auto const& comm) {
    Host const exec{{.threads = 1}};
    int const P = comm.size(), me = comm.rank();
    for (int round = 0; round < 12; ++round) {
      CAPTURE(round);
      auto const count = [&](int from, int to) -> index_t {
        if (round == 0) { return 0; }                   // nobody sends
        if (round == 1) { return to == 0 ? 700 : 0; }   // all to one
        if (round == 2) { return from == to ? 3 : 0; }  // each to itself
        return (from * 5 + to * 11 + round * 7) % 9 == 0 ? 0 : (from * 13 + to * 3 + round) % 40;
      };
      std::vector<index_t> send_counts, send_offsets, receive_counts, receive_offsets;
      std::vector<Pair> send;
      for (int r = 0; r < P; ++r) {
        send.resize(send.size() + static_cast<std::size_t>(r % 3));  // a gap
        send_counts.push_back(count(me, r));
        send_offsets.push_back(static_cast<index_t>(send.size()));
        for (index_t i = 0; i < send_counts.back(); ++i) {
          send.push_back({me * 1000 + r, static_cast<float>(i)});
        }
        receive_counts.push_back(count(r, me));
      }
      index_t end = 1;
      receive_offsets.resize(static_cast<std::size_t>(P));
      for (int r = P - 1; r >= 0; --r) {  // the last rank's block first
        receive_offsets[static_cast<std::size_t>(r)] = end;
        end += receive_counts[static_cast<std::size_t>(r)] + r % 2;
      }
      std::vector<Pair> receive(static_cast<std::size_t>(end + 1), Pair{-7, -7.f}),
          expected = receive;
      for (int r = 0; r < P; ++r) {
        for (index_t i = 0; i < count(r, me); ++i) {
          expected[static_cast<std::size_t>(receive_offsets[static_cast<std::size_t>(r)] + i)] = {
              r * 1000 + me, static_cast<float>(i)};
        }
      }
      comm.all_to_all_v(exec,
                        as_view(send),
                        {send_counts, send_offsets},
                        as_view(receive),
                        {receive_counts, receive_offsets});
      CHECK(same_bits(receive, expected));
    }
  });
}

TEST_CASE("a reduction repeats bit by bit, whichever rank comes last")
{
  constexpr int P = 7;
  std::vector<float> first;
  int runs = 0;
  for (int repeat = 0; repeat < 100; ++repeat) {
    std::vector<std::vector<float>> results(P);
    ThreadWorld(P, short_deadline).run([&](ThreadCommunicator const& comm) {
      if (comm.rank() == repeat % P) {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
      auto x = values<float>(comm.rank(), 3000);
      for (auto& v : x) {
        v = std::sin(v * 1e3f);
      }
      comm.all_reduce_sum(Host{{.threads = 1}}, as_view(x));
      results[static_cast<std::size_t>(comm.rank())] = x;
    });
    if (first.empty()) { first = results[0]; }
    for (auto const& r : results) {
      runs += same_bits(r, first);
    }
  }
  CHECK(runs == 100 * P);
}

TEST_CASE_TEMPLATE("what one rank can see is refused there, before anything is written",
                   Comm,
                   SelfCommunicator,
                   ThreadCommunicator)
{
  auto const check = [](auto const& comm) {
    Host const exec{{.threads = 1}};
    std::vector<float> a(6, 1.f), b(6, 2.f), c(5, 3.f);
    View<float, 1, Host> const null(nullptr, 6);
    std::vector<index_t> const six{6}, zero{0}, minus{-1}, seven{7}, one{1}, both{3, 3}, none;
    CHECK_THROWS_AS(comm.all_gather(exec, as_view(a), as_view(c)), ShapeError);
    CHECK_THROWS_AS(comm.reduce_scatter_sum(exec, as_view(a), as_view(c)), ShapeError);
    CHECK_THROWS_AS(comm.all_to_all(exec, as_view(a), as_view(c)), ShapeError);
    CHECK_THROWS_AS(comm.all_gather(exec, null, as_view(b)), ValueError);
    CHECK_THROWS_AS(comm.all_to_all(exec, as_view(a), null), ValueError);
    CHECK_THROWS_AS(comm.all_gather(exec, as_view(a), as_view(a)), AliasError);
    CHECK_THROWS_AS(
        comm.all_to_all(
            exec, View<float const, 1, Host>(a.data(), 3), View<float, 1, Host>(a.data() + 2, 3)),
        AliasError);
    auto const v = [&](auto const& sc, auto const& so, auto const& rc, auto const& ro) {
      comm.all_to_all_v(exec, as_view(a), {sc, so}, as_view(b), {rc, ro});
    };
    CHECK_THROWS_AS(v(both, zero, six, zero), ShapeError);
    CHECK_THROWS_AS(v(six, none, six, zero), ShapeError);
    CHECK_THROWS_AS(v(six, zero, six, both), ShapeError);
    CHECK_THROWS_AS(v(minus, zero, six, zero), ValueError);
    CHECK_THROWS_AS(v(six, minus, six, zero), ValueError);
    CHECK_THROWS_AS(v(six, one, six, zero), ValueError);
    CHECK_THROWS_AS(v(seven, zero, six, zero), ValueError);
    CHECK_THROWS_AS(v(six, zero, six, one), ValueError);
    CHECK_THROWS_AS(v(six, zero, seven, zero), ValueError);
    CHECK_THROWS_AS((void)comm.split(-1, 0), ValueError);
    CHECK(b == std::vector<float>(6, 2.f));
    CHECK(c == std::vector<float>(5, 3.f));
    comm.all_to_all(exec, as_view(a), as_view(b));  // and it is as good as before
    CHECK(b == a);
  };
  if constexpr (std::same_as<Comm, SelfCommunicator>) {
    check(SelfCommunicator{});
  } else {
    ThreadWorld(1).run(check);
  }
}

TEST_CASE("receive blocks that overlap are refused, by their ranks")
{
  ThreadWorld const world(3, short_deadline);
  world.run([](ThreadCommunicator const& comm) {
    std::vector<Id> a(6), b(6, 4);
    std::vector<index_t> const counts{2, 2, 2}, offsets{0, 2, 4}, over{4, 2, 3};
    try {
      comm.all_to_all_v(
          Host{{.threads = 1}}, as_view(a), {counts, offsets}, as_view(b), {counts, over});
      FAIL_CHECK("accepted");
    } catch (AliasError const& e) {
      CHECK(e.value == "overlapping for ranks 0 and 2");
      CHECK(e.rank == comm.rank());
    }
    CHECK(b == std::vector<Id>(6, 4));
  });
}

TEST_CASE("a world of no rank, of too many, or of no time is refused")
{
  CHECK_THROWS_AS(ThreadWorld(0), ValueError);
  CHECK_THROWS_AS(ThreadWorld(-3), ValueError);
  CHECK_THROWS_AS(ThreadWorld(4097), ValueError);
  CHECK_THROWS_AS(ThreadWorld(2, {.deadline = std::chrono::milliseconds(0)}), ValueError);
  CHECK_THROWS_AS(ThreadWorld(2, {.deadline = std::chrono::milliseconds::max()}), ValueError);
  ThreadWorld const world(2);
  CHECK_THROWS_AS((void)world.communicator(2), ValueError);
  CHECK_THROWS_AS((void)world.communicator(-1), ValueError);
}
