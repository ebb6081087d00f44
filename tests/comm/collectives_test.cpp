// Every collective of every communicator against a plain computation over all ranks' buffers.
// On every space.
#include "support/spaces.hpp"

#include <moe/comm/thread_world.hpp>

#include <cmath>
#include <cstring>
#include <string>

#include <doctest/doctest.h>

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
// A rank has a handle of its own.
TestSpace own_space()
{
  return test_space(Products::own, 1);
}
template <class T>
Tensor<T, 1, TestSpace> on(TestSpace const& exec, std::vector<T> const& v)
{
  Tensor<T, 1, TestSpace> to(exec, static_cast<index_t>(v.size()));
  exec.copy_from_host(to.view().data_handle(), v.data(), v.size() * sizeof(T));
  return to;
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
    TestSpace const exec = own_space();
    int const P          = comm.size();
    for (index_t const n : lengths) {
      CAPTURE(n);
      std::vector<T> all, part;
      for (index_t i = 0; i < n; ++i) {
        all.push_back(sum<T>(P, i));
        part.push_back(sum<T>(P, comm.rank() * n + i));
      }
      auto x = on(exec, values<T>(comm.rank(), n));
      comm.all_reduce_sum(exec, x.view());
      CHECK(same_bits(get(exec, x.const_view()), all));
      auto const send = on(exec, values<T>(comm.rank(), P * n));
      Tensor<T, 1, TestSpace> mine(exec, n);
      comm.reduce_scatter_sum(exec, send.const_view(), mine.view());
      CHECK(same_bits(get(exec, mine.const_view()), part));
    }
  });
}

TEST_CASE("integer sums wrap around, and one rank's negative zero stays one")
{
  ThreadWorld const world(2, short_deadline);
  world.run([](ThreadCommunicator const& comm) {
    TestSpace const exec = own_space();
    auto x               = on(exec, std::vector<Id>{2147483647, -5});
    comm.all_reduce_sum(exec, x.view());
    CHECK(get(exec, x.const_view()) == std::vector<Id>{-2, -10});
  });
  ThreadWorld(1).run([](ThreadCommunicator const& comm) {
    TestSpace const exec = own_space();
    auto x               = on(exec, std::vector<float>{-0.f});
    comm.all_reduce_sum(exec, x.view());
    CHECK(std::signbit(get(exec, x.const_view())[0]));
  });
}

TEST_CASE_TEMPLATE("all_gather and all_to_all put every block where it belongs", T, float, char, Id)
{
  for_each_world([](auto const& comm) {
    TestSpace const exec = own_space();
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
      auto receive    = on(exec, std::vector<T>(static_cast<std::size_t>(P * n), T{99}));
      auto const send = on(exec, values<T>(me, P * n));
      View<T const, 1, TestSpace> const block(send.view().data_handle(), n);
      comm.all_gather(exec, block, receive.view());
      CHECK(same_bits(get(exec, receive.const_view()), gathered));
      comm.all_to_all(exec, send.const_view(), receive.view());
      CHECK(same_bits(get(exec, receive.const_view()), exchanged));
    }
  });
}

// Unequal counts, zeros among them; gaps between the blocks, and blocks in any order.
TEST_CASE("all_to_all_v delivers every element once and writes nothing else")
{
  for_each_world([](auto const& comm) {
    TestSpace const exec = own_space();
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
      auto const sent = on(exec, send);
      auto received   = on(exec, receive);
      comm.all_to_all_v(exec,
                        sent.const_view(),
                        {send_counts, send_offsets},
                        received.view(),
                        {receive_counts, receive_offsets});
      CHECK(same_bits(get(exec, received.const_view()), expected));
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
      auto numbers = values<float>(comm.rank(), 3000);
      for (auto& v : numbers) {
        v = std::sin(v * 1e3f);
      }
      TestSpace const exec = own_space();
      auto x               = on(exec, numbers);
      comm.all_reduce_sum(exec, x.view());
      results[static_cast<std::size_t>(comm.rank())] = get(exec, x.const_view());
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
    TestSpace const exec = own_space();
    auto a = on(exec, std::vector<float>(6, 1.f)), b = on(exec, std::vector<float>(6, 2.f)),
         c = on(exec, std::vector<float>(5, 3.f));
    View<float, 1, TestSpace> const null(nullptr, 6);
    float* const first = a.view().data_handle();
    std::vector<index_t> const six{6}, zero{0}, minus{-1}, seven{7}, one{1}, both{3, 3}, none;
    CHECK_THROWS_AS(comm.all_gather(exec, a.view(), c.view()), ShapeError);
    CHECK_THROWS_AS(comm.reduce_scatter_sum(exec, a.view(), c.view()), ShapeError);
    CHECK_THROWS_AS(comm.all_to_all(exec, a.view(), c.view()), ShapeError);
    CHECK_THROWS_AS(comm.all_gather(exec, null, b.view()), ValueError);
    CHECK_THROWS_AS(comm.all_to_all(exec, a.view(), null), ValueError);
    CHECK_THROWS_AS(comm.all_gather(exec, a.view(), a.view()), AliasError);
    CHECK_THROWS_AS(comm.all_to_all(exec,
                                    View<float const, 1, TestSpace>(first, 3),
                                    View<float, 1, TestSpace>(first + 2, 3)),
                    AliasError);
    auto const v = [&](auto const& sc, auto const& so, auto const& rc, auto const& ro) {
      comm.all_to_all_v(exec, a.view(), {sc, so}, b.view(), {rc, ro});
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
    CHECK(get(exec, b.const_view()) == std::vector<float>(6, 2.f));
    CHECK(get(exec, c.const_view()) == std::vector<float>(5, 3.f));
    comm.all_to_all(exec, a.view(), b.view());  // and it is as good as before
    CHECK(get(exec, b.const_view()) == std::vector<float>(6, 1.f));
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
    TestSpace const exec = own_space();
    auto a = on(exec, std::vector<Id>(6)), b = on(exec, std::vector<Id>(6, 4));
    std::vector<index_t> const counts{2, 2, 2}, offsets{0, 2, 4}, over{4, 2, 3};
    try {
      comm.all_to_all_v(exec, a.const_view(), {counts, offsets}, b.view(), {counts, over});
      FAIL_CHECK("accepted");
    } catch (AliasError const& e) {
      CHECK(e.value == "overlapping for ranks 0 and 2");
      CHECK(e.rank == comm.rank());
    }
    CHECK(get(exec, b.const_view()) == std::vector<Id>(6, 4));
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
