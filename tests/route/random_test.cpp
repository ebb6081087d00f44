// Counter-based random numbers, and the noise of noisy top-k made of them.
#include <moe/exec/host.hpp>
#include <moe/route/noisy_top_k_router.hpp>
#include <support/route_check.hpp>

#include <set>

using namespace moe;
using moe::test::as_row;

namespace {

RowContext place(std::uint64_t seed, std::uint64_t step, index_t token)
{
  return {.token = token, .step = {.step = step, .seed = seed}};
}

struct Moments {
  double mean, variance, skew, kurtosis;
};

template <class DrawF>
Moments moments(int n, DrawF const& draw)
{
  double sum[4] = {};
  for (int i = 0; i < n; ++i) {
    double const x = draw(i);
    sum[0] += x;
    sum[1] += x * x;
    sum[2] += x * x * x;
    sum[3] += x * x * x * x;
  }
  for (double& s : sum) {
    s /= n;
  }
  return {sum[0], sum[1] - sum[0] * sum[0], sum[2], sum[3]};
}

}  // namespace

TEST_CASE("philox4x32-10 gives the known answers of Random123")
{
  using Words = Array<std::uint32_t, 4>;
  CHECK(philox4x32({{0, 0, 0, 0}}, {{0, 0}}) ==
        Words{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  CHECK(philox4x32({{~0u, ~0u, ~0u, ~0u}}, {{~0u, ~0u}}) ==
        Words{{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  CHECK(
      philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, {{0xa4093822, 0x299f31d0}}) ==
      Words{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST_CASE("a number belongs to its (seed, step, token, column), and to no other")
{
  std::set<std::uint64_t> seen;
  std::size_t places = 0;
  auto const visit   = [&](RowContext const& at, Id column) {
    auto const bits = random_bits(at, column);
    CHECK(bits == random_bits(at, column));
    seen.insert((std::uint64_t{bits[0]} << 32) | bits[1]);
    ++places;
  };
  for (std::uint64_t const high : {std::uint64_t{0}, std::uint64_t{1} << 32}) {
    for (std::uint64_t i = 0; i < 40; ++i) {
      for (Id column = 0; column < 5; ++column) {
        visit(place(high + i, 0, 0), column);
        visit(place(0, high + i + 100, 0), column);
        visit(place(0, 0, static_cast<index_t>(high + i + 100)), column);
        visit(place(0, 0, 0), static_cast<Id>(100 + i * 5) + column + (high != 0 ? 1000 : 0));
      }
    }
  }
  CHECK(seen.size() == places);
}

TEST_CASE_TEMPLATE("uniform and normal numbers have their moments", S, float, double)
{
  int const n = 200000;
  double lo = 1, hi = 0;
  auto const uniform = moments(n, [&](int i) {
    double const u = random_uniform<S>(place(7, 3, i / 100), i % 100);
    lo             = std::min(lo, u);
    hi             = std::max(hi, u);
    return u;
  });
  // Five standard deviations of the mean of n, and of their squares'.
  CHECK(std::abs(uniform.mean - 0.5) < 5 * std::sqrt(1. / 12 / n));
  CHECK(std::abs(uniform.variance - 1. / 12) < 5 * std::sqrt(1. / 180 / n));
  CHECK(lo > 0);
  CHECK(lo < 1e-4);
  CHECK(hi < 1);
  CHECK(hi > 1 - 1e-4);

  auto const normal =
      moments(n, [](int i) { return double{random_normal<S>(place(7, 4, i / 100), i % 100)}; });
  CHECK(std::abs(normal.mean) < 5 * std::sqrt(1. / n));
  CHECK(std::abs(normal.variance - 1) < 5 * std::sqrt(2. / n));
  CHECK(std::abs(normal.skew) < 5 * std::sqrt(15. / n));
  CHECK(std::abs(normal.kurtosis - 3) < 5 * std::sqrt(96. / n));
}

TEST_CASE("neighbours in any direction are not correlated")
{
  int const n      = 100000;
  auto const along = [&](auto const& at) {
    double sum = 0;
    for (int i = 0; i < n; ++i) {
      sum += at(i) * at(i + 1);
    }
    return sum / n;
  };
  double const bound = 5 / std::sqrt(double{n});
  CHECK(std::abs(along([](int i) { return random_normal<double>(place(1, 2, 3), i); })) < bound);
  CHECK(std::abs(along([](int i) { return random_normal<double>(place(1, 2, i), 3); })) < bound);
  CHECK(std::abs(along([](int i) {
          return random_normal<double>(place(1, static_cast<std::uint64_t>(i), 2), 3);
        })) < bound);
  CHECK(std::abs(along([](int i) {
          return random_normal<double>(place(static_cast<std::uint64_t>(i), 1, 2), 3);
        })) < bound);
}

TEST_CASE("noisy top-k adds N(0, 1) (softplus(raw) + min_noise) to each logit")
{
  // Two experts and K = 2: the weights tell the difference of the two noisy logits.
  NoisyTopK<2> const router{.min_noise = 0.25};
  double const raw[2] = {0.5, -1};
  std::vector<double> const z{0.3, -0.2, raw[0], raw[1]};
  double const width[2] = {std::log1p(std::exp(raw[0])) + 0.25,
                           std::log1p(std::exp(raw[1])) + 0.25};
  double const variance = width[0] * width[0] + width[1] * width[1];
  int const n           = 50000;
  auto const noise      = moments(n, [&](int t) {
    auto const ctx   = place(11, 0, t);
    auto const c     = router.route(SerialTeam{}, ctx, as_row(z));
    double const h_0 = c.expert[0] == 0 ? c.weight[0] : c.weight[1];
    double const d   = std::log(h_0) - std::log(1 - h_0) - 0.5;
    double const expected =
        width[0] * random_normal<double>(ctx, 0) - width[1] * random_normal<double>(ctx, 1);
    if (!(std::abs(d - expected) < 1e-9 * (1 + std::exp(std::abs(expected))))) { FAIL_CHECK(t); }
    return d;
  });
  CHECK(std::abs(noise.mean) < 5 * std::sqrt(variance / n));
  CHECK(std::abs(noise.variance - variance) < 5 * variance * std::sqrt(2. / n));
}

TEST_CASE("noise changes with seed, step and token, repeats with them, and is off in evaluation")
{
  NoisyTopK<4> const router;
  std::vector<double> const z = test::uniform_numbers(32, 3, -1, 1);
  auto const weights          = [&](RowContext const& ctx) {
    return router.route(SerialTeam{}, ctx, as_row(z)).weight;
  };
  auto const base = weights(place(1, 2, 3));
  CHECK(base == weights(place(1, 2, 3)));
  CHECK(base != weights(place(2, 2, 3)));
  CHECK(base != weights(place(1, 3, 3)));
  CHECK(base != weights(place(1, 2, 4)));

  auto quiet     = place(1, 2, 3);
  quiet.training = false;
  auto other     = place(5, 6, 7);
  other.training = false;
  CHECK(weights(quiet) == weights(other));
}
