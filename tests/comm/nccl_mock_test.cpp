// The NCCL communicator's results, over a mock whose ranks are threads: what each collective hands
// to NCCL, which sends meet which receives, groups, worlds of one, and the caller's own handles.
#include <doctest/doctest.h>

#include <array>
#include <numeric>

#include "comm/nccl_threads.hpp"

using namespace moe;
using namespace moe::test;

namespace {

// Small whole numbers, exact in every type.
template <class T>
T number(int rank, index_t i)
{
  int const x = (7 * rank + static_cast<int>(i) * 3) % 11;
  if constexpr (Element<T> && sizeof(T) == 2) {
    return T(static_cast<float>(x));
  } else {
    return static_cast<T>(x);
  }
}
template <class T>
std::vector<T> numbers(int rank, index_t n)
{
  std::vector<T> all;
  for (index_t i = 0; i < n; ++i) {
    all.push_back(number<T>(rank, i));
  }
  return all;
}
template <class T>
double value(T x)
{
  return static_cast<double>(x);
}

template <class T>
void check_sums(MockCommunicator const& comm)
{
  int const P = comm.size(), me = comm.rank();
  for (index_t const n : {0, 1, 5}) {
    auto const sum = [&](index_t i) {
      double total = 0;
      for (int r = 0; r < P; ++r) {
        total += value(number<T>(r, i));
      }
      return total;
    };
    auto x = numbers<T>(me, n);
    comm.all_reduce_sum(nccl_host(), as_view(x));
    for (index_t i = 0; i < n; ++i) {
      CHECK(value(x[static_cast<std::size_t>(i)]) == sum(i));
    }
    auto const send = numbers<T>(me, n * P);
    std::vector<T> receive(static_cast<std::size_t>(n));
    comm.reduce_scatter_sum(nccl_host(), as_view(send), as_view(receive));
    for (index_t i = 0; i < n; ++i) {
      CHECK(value(receive[static_cast<std::size_t>(i)]) == sum(me * n + i));
    }
  }
}

template <class T>
void check_moves(MockCommunicator const& comm)
{
  int const P = comm.size(), me = comm.rank();
  for (index_t const n : {0, 1, 5}) {
    auto const send = numbers<T>(me, n);
    std::vector<T> receive(static_cast<std::size_t>(n * P));
    comm.all_gather(nccl_host(), as_view(send), as_view(receive));
    auto const sends = numbers<T>(me, n * P);
    std::vector<T> receives(static_cast<std::size_t>(n * P));
    comm.all_to_all(nccl_host(), as_view(sends), as_view(receives));
    for (int r = 0; r < P; ++r) {
      for (index_t i = 0; i < n; ++i) {
        auto const at = static_cast<std::size_t>(r * n + i);
        CHECK(value(receive[at]) == value(number<T>(r, i)));
        CHECK(value(receives[at]) == value(number<T>(r, me * n + i)));
      }
    }
  }
}

// Elements that go from one rank to another: some pairs send nothing, one way or both.
index_t between(int from, int to)
{
  return (from * 5 + to * 3) % 4;
}

template <class T>
void check_ragged(MockCommunicator const& comm)
{
  int const P = comm.size(), me = comm.rank();
  std::vector<index_t> to, from;
  for (int r = 0; r < P; ++r) {
    to.push_back(between(me, r));
    from.push_back(between(r, me));
  }
  Counts const send_counts(to), receive_counts(from);
  auto const send = numbers<T>(me, send_counts.total);
  std::vector<T> receive(static_cast<std::size_t>(receive_counts.total));
  comm.all_to_all_v(
      nccl_host(), as_view(send), send_counts.blocks(), as_view(receive), receive_counts.blocks());
  for (int r = 0; r < P; ++r) {
    index_t before = 0;  // of rank r's blocks
    for (int q = 0; q < me; ++q) {
      before += between(r, q);
    }
    for (index_t i = 0; i < between(r, me); ++i) {
      auto const at =
          static_cast<std::size_t>(receive_counts.offsets[static_cast<std::size_t>(r)] + i);
      CHECK(value(receive[at]) == value(number<T>(r, before + i)));
    }
  }
}

template <class... Ts>
void check_all(MockCommunicator const& comm)
{
  (check_sums<Ts>(comm), ...);
  (check_moves<Ts>(comm), ...);
  (check_ragged<Ts>(comm), ...);
}

struct Bytes {  // no number: can travel, not be added
  std::array<char, 3> bytes;
  explicit operator double() const { return bytes[1]; }
  Bytes() = default;
  explicit Bytes(int x) : bytes{'a', static_cast<char>(x), 'b'} {}
};

}  // namespace

TEST_CASE("every collective gives its result, for every type and world")
{
  for (int P = 1; P <= 4; ++P) {
    CAPTURE(P);
    on_world(P, [](MockCommunicator const& comm) {
      check_all<Id, index_t, float, double, Half, BFloat16>(comm);
      check_sums<std::uint32_t>(comm);
      check_sums<std::uint64_t>(comm);
      check_sums<std::int8_t>(comm);
      check_sums<std::uint8_t>(comm);
      check_moves<Bytes>(comm);
      check_ragged<Bytes>(comm);
      comm.wait(nccl_host());
      comm.check();
    });
    CHECK(MockNccl::calls_of(NcclCall::destroy) == (P == 1 ? 0 : P));
  }
}

TEST_CASE("pairs with nothing between them call nothing")
{
  for (int P = 2; P <= 4; ++P) {
    CAPTURE(P);
    on_world(P, [](MockCommunicator const& comm) {
      check_ragged<float>(comm);
      std::vector<index_t> const none(static_cast<std::size_t>(comm.size()), 0);
      std::vector<float> empty;
      comm.all_to_all_v(nccl_host(), as_view(empty), {none, none}, as_view(empty), {none, none});
    });
    int pairs = 0, ranks = 0;
    for (int from = 0; from < P; ++from) {
      bool any = false;
      for (int to = 0; to < P; ++to) {
        pairs += from != to && between(from, to) > 0 ? 1 : 0;
        any = any || (from != to && between(from, to) + between(to, from) > 0);
      }
      ranks += any ? 1 : 0;
    }
    CHECK(MockNccl::calls_of(NcclCall::send) == pairs);
    CHECK(MockNccl::calls_of(NcclCall::recv) == pairs);
    CHECK(MockNccl::calls_of(NcclCall::group_start) == ranks);
    CHECK(MockNccl::calls_of(NcclCall::group_end) == ranks);
  }
}

TEST_CASE("groups are ranked by key, work beside the world, and may be split again")
{
  for (int P = 2; P <= 4; ++P) {
    CAPTURE(P);
    on_world(P, [P](MockCommunicator const& comm) {
      int const me     = comm.rank();
      auto const group = comm.split(me % 2, -me);
      int const n      = (P + 1 - me % 2) / 2;
      CHECK(group.size() == n);
      CHECK(group.rank() == n - 1 - me / 2);
      check_all<float, Id>(group);
      check_all<float, Id>(comm);
      auto const alone = group.split(group.rank(), 0);
      CHECK(alone.size() == 1);
      check_all<float, Id>(alone);
      auto const again = comm.split(3, 0);
      CHECK(again.size() == P);
      CHECK(again.rank() == me);
    });
    CHECK(MockNccl::calls_of(NcclCall::destroy) >= 3 * P);
  }
}

TEST_CASE("a group's handle may come after its split is done")  // as NCCL 2.28's does
{
  on_world(3, [](MockCommunicator const& comm) {
    {
      std::lock_guard const lock(MockNccl::state().mutex);
      MockNccl::state().late_groups = true;
    }
    auto const group = comm.split(0, -comm.rank());
    CHECK(group.size() == 3);
    CHECK(group.rank() == 2 - comm.rank());
    check_all<float, Id>(group);
  });
}

TEST_CASE("a world of one calls nothing of NCCL's")
{
  MockNccl::reset();
  {
    MockCommunicator const comm(0, 0, 1);
    check_all<Id, float, BFloat16>(comm);
    auto const group = comm.split(4, 2);
    CHECK(group.size() == 1);
    check_all<float>(group);
    group.wait(nccl_host());
    group.check();
    CHECK(comm.handle() == nullptr);
  }
  CHECK(MockNccl::all_calls() == 0);
}

TEST_CASE("the caller's handle is used and never ended; groups of it are ended")
{
  MockNccl::reset();
  int id = 0;
  CHECK(MockNccl::get_unique_id(&id) == MockNccl::success);
  auto const ends = on_threads(3, [&](int r) {
    MockNccl::Comm handle = nullptr;
    CHECK(MockNccl::init_rank(&handle, 3, id, r) == MockNccl::in_progress);
    MockCommunicatorRef const comm = [&] {
      for (int state = MockNccl::in_progress; state != MockNccl::success;) {
        (void)MockNccl::async_error(handle, &state);
      }
      return MockCommunicatorRef(handle);
    }();
    CHECK(comm.rank() == r);
    CHECK(comm.size() == 3);
    CHECK(comm.handle() == handle);
    std::vector<Id> x{r, 1};
    comm.all_reduce_sum(nccl_host(), as_view(x));
    CHECK(x == std::vector<Id>{3, 3});
    auto const group = comm.split(0, 0);
    group.all_reduce_sum(nccl_host(), as_view(x));
    CHECK(x == std::vector<Id>{9, 9});
  });
  for (auto const& end : ends) {
    CHECK(end.text == "");
  }
  CHECK(MockNccl::calls_of(NcclCall::destroy) == 3);  // of the groups
  CHECK(MockNccl::calls_of(NcclCall::abort) == 0);
  CHECK_THROWS_AS(MockCommunicatorRef(nullptr), ValueError);
}

TEST_CASE("what one rank can see is refused before NCCL is called")
{
  MockNccl::reset();
  CHECK_THROWS_AS(MockCommunicator(0, 0, 0), ValueError);
  CHECK_THROWS_AS(MockCommunicator(0, 2, 2), ValueError);
  CHECK_THROWS_AS(MockCommunicator(0, -1, 2), ValueError);
  CHECK_THROWS_AS(MockCommunicator(0, 0, 1, {.deadline = std::chrono::milliseconds(0)}),
                  ValueError);
  CHECK(MockNccl::all_calls() == 0);
  on_world(2, [](MockCommunicator const& comm) {
    auto const exec = nccl_host();
    std::vector<float> a(4), b(3), c(4);
    CHECK_THROWS_AS(comm.all_gather(exec, as_view(a), as_view(b)), ShapeError);
    CHECK_THROWS_AS(comm.reduce_scatter_sum(exec, as_view(b), as_view(c)), ShapeError);
    CHECK_THROWS_AS(comm.all_to_all(exec, as_view(b), as_view(c)), ShapeError);
    CHECK_THROWS_AS(comm.all_to_all(exec, as_view(a), as_view(a)), AliasError);
    CHECK_THROWS_AS(comm.all_reduce_sum(exec, View<float, 1, Host>(nullptr, 3)), ValueError);
    std::vector<index_t> const two{1, 2}, other{1, 1}, offsets{0, 2};
    std::vector<index_t> own = comm.rank() == 0 ? std::vector<index_t>{2, 2} : other;
    CHECK_THROWS_AS(comm.all_to_all_v(exec, as_view(a), {two, offsets}, as_view(c), {own, offsets}),
                    ShapeError);
    CHECK_THROWS_AS(static_cast<void>(comm.split(-1, 0)), ValueError);
    CHECK(MockNccl::calls_of(NcclCall::all_gather) == 0);
    CHECK(MockNccl::calls_of(NcclCall::group_start) == 0);
    CHECK(MockNccl::calls_of(NcclCall::split) == 0);
  });
}
