// The cost model: what must hold for any cluster.
#include <moe/comm/cost_model.hpp>

#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace moe;

namespace {

using Exchange       = ExchangeCost (*)(Cluster const&, int, double);
using MatrixExchange = ExchangeCost (*)(Cluster const&, int, std::span<double const>);

// Made-up round numbers.
Cluster cluster_of(int ranks_per_host)
{
  return {.in_host        = {5e-6, 300e9},
          .across_hosts   = {10e-6, 50e9},
          .ranks_per_host = ranks_per_host,
          .pack_bandwidth = 2e12};
}

struct World {
  int ranks, ranks_per_host;
};
constexpr World worlds[] = {{1, 1}, {1, 8}, {3, 8}, {8, 8}, {4, 1}, {6, 2}, {12, 4}, {24, 8}};

std::vector<double> random_matrix(int ranks, unsigned seed)
{
  std::mt19937 random(seed);
  std::vector<double> bytes(static_cast<std::size_t>(ranks) * static_cast<std::size_t>(ranks));
  for (double& b : bytes) {
    b = random() % 4 == 0 ? 0. : static_cast<double>(random() % 1'000'000);
  }
  return bytes;
}

}  // namespace

TEST_CASE("even exchanges: messages and bytes by tier, and the same as their matrix")
{
  double const block = 12'345;
  for (auto const [P, per_host] : worlds) {
    CAPTURE(P);
    CAPTURE(per_host);
    auto const cluster = cluster_of(per_host);
    int const g = std::min(P, per_host), hosts = P / g;
    std::vector<double> const matrix(static_cast<std::size_t>(P * P), block);

    auto const flat = flat_all_to_all(cluster, P, block);
    CHECK(flat.messages() == P - 1);
    CHECK(flat.in_host.messages == g - 1);
    CHECK(flat.bytes() == P * (P - 1) * block);
    CHECK(flat.across_hosts.bytes == P * (P - g) * block);

    auto const two_level = hierarchical_all_to_all(cluster, P, block);
    CHECK(two_level.messages() == (g - 1) + (hosts - 1));
    CHECK(two_level.in_host.messages == g - 1);
    CHECK(two_level.across_hosts.bytes == flat.across_hosts.bytes);
    CHECK(two_level.in_host.bytes == P * (g - 1) * hosts * block);
    if (hosts == 1 || g == 1) { CHECK(two_level.seconds == doctest::Approx(flat.seconds)); }

    auto const same = [&](ExchangeCost const& a, ExchangeCost const& b) {
      CHECK(a.seconds == doctest::Approx(b.seconds).epsilon(1e-12));
      CHECK(a.pack_seconds == doctest::Approx(b.pack_seconds).epsilon(1e-12));
      CHECK(a.in_host.messages == b.in_host.messages);
      CHECK(a.across_hosts.messages == b.across_hosts.messages);
      CHECK(a.in_host.bytes == b.in_host.bytes);
      CHECK(a.across_hosts.bytes == b.across_hosts.bytes);
    };
    same(flat, flat_all_to_all(cluster, P, matrix));
    same(two_level, hierarchical_all_to_all(cluster, P, matrix));
  }
}

TEST_CASE("any matrix: no byte is lost or made up")
{
  for (auto const [P, per_host] : worlds) {
    for (unsigned seed = 0; seed < 20; ++seed) {
      CAPTURE(P);
      CAPTURE(per_host);
      CAPTURE(seed);
      auto const bytes   = random_matrix(P, seed);
      int const g        = std::min(P, per_host);
      double leaves_rank = 0, leaves_host = 0, changes_local_index = 0;
      for (int s = 0; s < P; ++s) {
        for (int d = 0; d < P; ++d) {
          double const b = bytes[static_cast<std::size_t>(s * P + d)];
          leaves_rank += s != d ? b : 0;
          leaves_host += s / g != d / g ? b : 0;
          changes_local_index += s % g != d % g ? b : 0;
        }
      }
      auto const flat      = flat_all_to_all(cluster_of(per_host), P, bytes);
      auto const two_level = hierarchical_all_to_all(cluster_of(per_host), P, bytes);
      CHECK(flat.bytes() == leaves_rank);
      CHECK(flat.across_hosts.bytes == leaves_host);
      CHECK(two_level.across_hosts.bytes == leaves_host);
      CHECK(two_level.in_host.bytes == changes_local_index);
    }
  }
}

TEST_CASE("more bytes, slower links or later messages never take less time")
{
  MatrixExchange const exchanges[] = {flat_all_to_all, hierarchical_all_to_all};
  for (auto const exchange : exchanges) {
    for (auto const [P, per_host] : worlds) {
      CAPTURE(P);
      CAPTURE(per_host);
      auto const cluster = cluster_of(per_host);
      auto bytes         = random_matrix(P, 1);
      double before      = exchange(cluster, P, bytes).seconds;
      CHECK(before >= 0);
      for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] += 300'000;
        double const after = exchange(cluster, P, bytes).seconds;
        CHECK(after >= before);
        before = after;
      }
      for (auto change : {+[](Cluster& c) { c.in_host.latency *= 2; },
                          +[](Cluster& c) { c.across_hosts.latency *= 2; },
                          +[](Cluster& c) { c.in_host.bandwidth /= 2; },
                          +[](Cluster& c) { c.across_hosts.bandwidth /= 2; },
                          +[](Cluster& c) { c.pack_bandwidth /= 2; }}) {
        auto worse = cluster;
        change(worse);
        CHECK(exchange(worse, P, bytes).seconds >= before);
      }
    }
  }
  // One rank that gets all is what the exchange waits for.
  std::vector<double> one_gets_all(16, 0.);
  for (std::size_t s = 1; s < 4; ++s) {
    one_gets_all[4 * s] = 3e9;
  }
  CHECK(flat_all_to_all({{0, 1e9}, {}, 4}, 4, one_gets_all).seconds == doctest::Approx(9));
}

TEST_CASE("overlapped: never less than the longer, never more than both")
{
  for (int n : {1, 2, 3, 8, 100}) {
    for (double c : {0., 1., 2.5}) {
      for (double p : {0., 1., 3.}) {
        CAPTURE(n);
        CAPTURE(c);
        CAPTURE(p);
        auto const cost = overlapped(n, c, p);
        CHECK(cost.communication == n * c);
        CHECK(cost.compute == n * p);
        CHECK(cost.seconds >= std::max(cost.communication, cost.compute));
        CHECK(cost.seconds <= cost.communication + cost.compute);
        CHECK(cost.overlap() >= 0);
        CHECK(cost.overlap() <= 1);
        if (n == 1) { CHECK(cost.seconds == c + p); }

        // Event by event, with two buffers.
        std::vector<double> arrived(static_cast<std::size_t>(n)), done(arrived);
        for (std::size_t i = 0; i < arrived.size(); ++i) {
          double start = i > 0 ? arrived[i - 1] : 0;
          if (i > 1) { start = std::max(start, done[i - 2]); }
          arrived[i] = start + c;
          done[i]    = std::max(arrived[i], i > 0 ? done[i - 1] : 0) + p;
        }
        CHECK(cost.seconds == doctest::Approx(done.back()));
      }
    }
  }
}

TEST_CASE("more chunks hide more until the latency of their messages costs more than they hide")
{
  auto cluster                 = cluster_of(8);
  cluster.across_hosts.latency = 1e-6;
  auto const layer             = [&](int n) {
    return overlapped(n, flat_all_to_all(cluster, 64, 4e6 / n).seconds, 4e-3 / n).seconds;
  };
  CHECK(layer(2) < layer(1));
  CHECK(layer(4) < layer(2));
  CHECK(layer(256) > layer(4));
}

TEST_CASE("a tier through two timed exchanges gives them back")
{
  LinkTier const tier{7e-6, 123e9};
  TimedExchange const small{3, 1e6, tier.seconds(3, 1e6)}, large{3, 1e9, tier.seconds(3, 1e9)};
  auto const found = tier_through(small, large);
  CHECK(found.latency == doctest::Approx(tier.latency));
  CHECK(found.bandwidth == doctest::Approx(tier.bandwidth));
  CHECK_THROWS_AS((void)tier_through(large, small), ValueError);
}

TEST_CASE("what is refused")
{
  auto const cluster = cluster_of(8);
  CHECK_THROWS_AS((void)flat_all_to_all(cluster, 0, 1.), ValueError);
  CHECK_THROWS_AS((void)flat_all_to_all(cluster, 12, 1.), ValueError);  // a host half full
  CHECK_THROWS_AS((void)hierarchical_all_to_all(cluster, 16, -1.), ValueError);
  CHECK_THROWS_AS((void)flat_all_to_all(cluster, 4, std::vector<double>(15)), ShapeError);
  CHECK_THROWS_AS((void)flat_all_to_all({{1, 0}, {}, 8}, 4, 1.), ValueError);
  CHECK_THROWS_AS((void)flat_all_to_all({{-1, 1}, {}, 8}, 4, 1.), ValueError);
  CHECK_THROWS_AS((void)overlapped(0, 1, 1), ValueError);
}
