// One simulated rank: what it receives, what it counts, and that the cost model says the same.
// On every space.
#include "support/spaces.hpp"

#include <moe/comm/decorators.hpp>
#include <moe/comm/simulated_communicator.hpp>

#include <vector>

#include <doctest/doctest.h>

using namespace moe;
using moe::test::get, moe::test::get_numbers, moe::test::put, moe::test::one_thread,
    moe::test::TestSpace;

static_assert(ExchangeCommunicator<SimulatedCommunicator, TestSpace, float>);
static_assert(
    ExchangeCommunicator<RecordingCommunicator<SimulatedCommunicator>, TestSpace, BFloat16>);
static_assert(!HasAllReduce<SimulatedCommunicator, TestSpace, bool>);

namespace {

Cluster const cluster{.in_host = {5e-6, 300e9}, .across_hosts = {10e-6, 50e9}, .ranks_per_host = 8};

std::vector<int> numbers(index_t n, int first = 1)
{
  std::vector<int> all;
  for (int i = 0; i < n; ++i) {
    all.push_back(first + i);
  }
  return all;
}

struct Blocks {
  explicit Blocks(std::vector<index_t> n) : counts{std::move(n)}
  {
    for (index_t const c : counts) {
      offsets.push_back(total);
      total += c;
    }
  }
  operator RankBlocks() const { return {counts, offsets}; }
  std::vector<index_t> counts, offsets;
  index_t total = 0;
};

template <class T>
void check_sums()
{
  auto const exec = one_thread();
  for (int P : {1, 3, 8, 64}) {
    CAPTURE(P);
    SimulatedCommunicator const comm(cluster, P, P / 2);
    for (index_t n : {0, 1, 1024, 1025}) {
      CAPTURE(n);
      std::vector<int> values;
      for (int i = 0; i < n; ++i) {
        values.push_back(i % 2);  // 64 x 1 is exact in every type
      }
      auto x = put<T>(exec, values, n);
      comm.all_reduce_sum(exec, x.view());
      auto const sum = get_numbers(exec, x.view());
      bool right     = true;
      for (std::size_t i = 0; i < sum.size(); ++i) {
        right = right && sum[i] == P * static_cast<double>(values[i]);
      }
      CHECK(right);
    }
  }
}

}  // namespace

TEST_CASE("peers are copies of this rank: what every collective returns")
{
  auto const exec = one_thread();
  check_sums<float>();
  check_sums<Half>();
  check_sums<BFloat16>();
  check_sums<Id>();
  check_sums<index_t>();
  check_sums<std::uint8_t>();

  constexpr int P = 4, rank = 2;
  constexpr index_t n = 3;
  SimulatedCommunicator const comm(cluster, P, rank);
  CHECK(comm.rank() == rank);
  CHECK(comm.size() == P);
  auto const few = put<float>(exec, numbers(n), n);
  auto const all = put<float>(exec, numbers(P * n), P * n);
  Tensor<float, 1, TestSpace> many(exec, P * n), one(exec, n);
  comm.all_gather(exec, few.view(), many.view());
  CHECK(get_numbers(exec, many.view()) == std::vector<double>{1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3});
  comm.reduce_scatter_sum(exec, all.view(), one.view());
  CHECK(get_numbers(exec, one.view()) == std::vector<double>{28, 32, 36});
  comm.all_to_all(exec, all.view(), many.view());
  CHECK(get_numbers(exec, many.view()) == std::vector<double>{7, 8, 9, 7, 8, 9, 7, 8, 9, 7, 8, 9});

  // Block 2 is {4, 5}: as long, cut, repeated, nothing.
  Blocks const sent({1, 2, 2, 0}), received({2, 1, 5, 0});
  auto to = put<float>(exec, std::vector<int>(9, -1), 9);
  comm.all_to_all_v(exec, all.view(), sent, to.view(), received);
  CHECK(get_numbers(exec, to.view()) == std::vector<double>{4, 5, 4, 4, 5, 4, 5, 4, -1});
  // And empty.
  SimulatedCommunicator const last(cluster, P, 3);
  last.all_to_all_v(exec, all.view(), sent, to.view(), received);
  CHECK(get_numbers(exec, to.view()) == std::vector<double>{0, 0, 0, 0, 0, 0, 0, 0, -1});
}

TEST_CASE("messages, bytes and seconds are the cost model's, over 64 to 4,096 ranks")
{
  auto const exec = one_thread();
  for (int P : {1, 8, 64, 512, 4096}) {
    CAPTURE(P);
    SimulatedCommunicator const comm(cluster, P, P - 1);
    constexpr index_t n = 5;
    auto const expect   = [&](double block_bytes, int phases, auto const& call) {
      comm.reset_traffic();
      call();
      auto const cost = flat_all_to_all(cluster, P, block_bytes);
      auto const seen = comm.traffic();
      CHECK(seen.collectives == 1);
      CHECK(seen.in_host_messages == static_cast<std::uint64_t>(phases * cost.in_host.messages));
      CHECK(seen.across_hosts_messages ==
            static_cast<std::uint64_t>(phases * cost.across_hosts.messages));
      CHECK(static_cast<double>(seen.in_host_bytes) * P == phases * cost.in_host.bytes);
      CHECK(static_cast<double>(seen.across_hosts_bytes) * P == phases * cost.across_hosts.bytes);
      CHECK(seen.seconds == doctest::Approx(phases * cost.seconds));
    };
    auto const part = put<float>(exec, numbers(n), n);
    auto const all  = put<float>(exec, numbers(P * n), P * n);
    Tensor<float, 1, TestSpace> received(exec, P * n), one(exec, n);
    Blocks const even(std::vector<index_t>(static_cast<std::size_t>(P), n));
    expect(4 * n, 1, [&] { comm.all_gather(exec, part.view(), received.view()); });
    expect(4 * n, 1, [&] { comm.reduce_scatter_sum(exec, all.view(), one.view()); });
    expect(4 * n, 1, [&] { comm.all_to_all(exec, all.view(), received.view()); });
    expect(4 * n, 1, [&] { comm.all_to_all_v(exec, all.view(), even, received.view(), even); });
    expect(4 * n, 2, [&] { comm.all_reduce_sum(exec, received.view()); });
  }
}

TEST_CASE("unequal blocks: bytes that are sent are counted, the larger direction is waited for")
{
  auto const exec = one_thread();
  Cluster const slow{.in_host = {0, 1}, .across_hosts = {0, 1}, .ranks_per_host = 2};
  SimulatedCommunicator const comm(slow, 4, 0);
  auto const from = put<std::uint8_t>(exec, numbers(40), 40);
  Tensor<std::uint8_t, 1, TestSpace> to(exec, 40);
  Blocks const a({7, 10, 1, 2}), b({7, 4, 9, 11});
  comm.all_to_all_v(exec, from.view(), a, to.view(), b);
  CHECK(comm.traffic().in_host_bytes == 10);
  CHECK(comm.traffic().across_hosts_bytes == 3);
  CHECK(comm.traffic().seconds == doctest::Approx(20));  // 9 + 11 in, beside 10 out in the host
}

TEST_CASE("groups within and across hosts: an exchange in two phases costs what the model says")
{
  auto const exec = one_thread();
  for (int P : {8, 64, 256}) {
    CAPTURE(P);
    int const g = 8, hosts = P / g;
    SimulatedCommunicator const comm(cluster, P, P - 3);
    auto const in = comm.host_group(), across = comm.across_group();
    CHECK(in.size() == g);
    CHECK(in.rank() == g - 3);
    CHECK(across.size() == hosts);
    CHECK(across.rank() == hosts - 1);
    CHECK(across.world_rank() == P - 3);

    comm.reset_traffic();
    index_t const n = 6;
    auto const all  = put<float>(exec, numbers(P * n), P * n);
    Tensor<float, 1, TestSpace> staged(exec, P * n), arrived(exec, P * n);
    in.all_to_all(exec, all.view(), staged.view());
    across.all_to_all(exec, std::as_const(staged).view(), arrived.view());
    auto const cost = hierarchical_all_to_all(cluster, P, static_cast<double>(4 * n));
    auto const seen = comm.traffic();  // groups share it
    CHECK(seen.collectives == 2);
    CHECK(seen.in_host_messages == static_cast<std::uint64_t>(g - 1));
    CHECK(seen.across_hosts_messages == static_cast<std::uint64_t>(hosts - 1));
    CHECK(static_cast<double>(seen.in_host_bytes) * P == cost.in_host.bytes);
    CHECK(static_cast<double>(seen.across_hosts_bytes) * P == cost.across_hosts.bytes);
    CHECK(seen.seconds == doctest::Approx(cost.seconds));
  }
  SimulatedCommunicator const comm(cluster, 64, 10);
  auto const same = comm.split(3, 0);
  CHECK(same.size() == 64);
  CHECK(same.rank() == 10);
  auto const odd = comm.split_by([](int r) { return r % 2; }).split_by([](int r) { return r < 8; });
  CHECK(odd.size() == 8);  // even ranks below 16
  CHECK(odd.rank() == 5);
}

TEST_CASE("what is refused, and nothing is counted then")
{
  auto const exec = one_thread();
  CHECK_THROWS_AS(SimulatedCommunicator(cluster, 12, 0), ValueError);
  CHECK_THROWS_AS(SimulatedCommunicator(cluster, 16, 16), ValueError);
  CHECK_THROWS_AS(SimulatedCommunicator(cluster, 16, -1), ValueError);
  SimulatedCommunicator const comm(cluster, 16, 3);
  Tensor<float, 1, TestSpace> a(exec, 32), b(exec, 32), odd(exec, 33);
  auto const send = std::as_const(a).view();
  CHECK_THROWS_AS(comm.all_gather(exec, send, b.view()), ShapeError);
  CHECK_THROWS_AS(comm.all_to_all(exec, send, odd.view()), ShapeError);
  CHECK_THROWS_AS(comm.all_to_all(exec, send, a.view()), AliasError);
  CHECK_THROWS_AS(comm.reduce_scatter_sum(exec, send, odd.view()), ShapeError);
  Blocks const fits(std::vector<index_t>(16, 2)), large(std::vector<index_t>(16, 3)), few({32});
  CHECK_THROWS_AS(comm.all_to_all_v(exec, send, large, b.view(), fits), ValueError);
  CHECK_THROWS_AS(comm.all_to_all_v(exec, send, fits, b.view(), few), ShapeError);
  CHECK_THROWS_AS((void)comm.split(-1, 0), ValueError);
  CHECK(comm.traffic().collectives == 0);
  CHECK(comm.traffic().seconds == 0);
}
