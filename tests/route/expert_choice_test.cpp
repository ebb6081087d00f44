// Expert choice against a naive one, and the way back.
#include <moe/exec/host.hpp>
#include <moe/exec/host/sort.hpp>
#include <moe/route/expert_choice_router.hpp>
#include <support/route_check.hpp>

using namespace moe;
using moe::test::as_list, moe::test::as_matrix, moe::test::infinite, moe::test::not_a_number;

namespace {

struct Chosen {
  std::vector<Id> offsets, token, expert;
  std::vector<double> weight;
};

template <class S>
Chosen expert_choice(double factor,
                     std::vector<double> const& logits,
                     index_t tokens,
                     index_t experts,
                     std::vector<std::uint8_t> const& mask = {},
                     int threads                           = 2)
{
  Host const exec{{.threads = threads, .products = Products::own}};
  ExpertChoice const router{.factor = factor};
  RoutingInput<S, Host> in{.tokens = tokens, .experts = experts};
  if (!mask.empty()) { in.mask = as_list(mask); }
  Routing<S, Host> routing(exec, tokens, router.assignments(tokens, experts), 0);
  std::vector<S> const z(logits.begin(), logits.end());
  router.route(exec, SelfCommunicator{}, in, as_matrix(z, tokens, experts), routing.view());
  auto const weight = test::to_vector(routing.weight.const_view());
  return {test::to_vector(routing.offsets.const_view()),
          test::to_vector(routing.token.const_view()),
          test::to_vector(routing.expert.const_view()),
          {weight.begin(), weight.end()}};
}

// A row's softmax in S, where what is not finite counts as the lowest or largest number.
template <class S>
std::vector<S> row_scores(std::vector<double> const& logits, std::size_t t, std::size_t experts)
{
  S const largest = std::numeric_limits<S>::max();
  std::vector<S> z(experts);
  for (std::size_t e = 0; e < experts; ++e) {
    auto const x = static_cast<S>(logits[t * experts + e]);
    z[e]         = std::isnan(x) ? -largest : std::clamp(x, -largest, largest);
  }
  S const hi = *std::max_element(z.begin(), z.end());
  S sum      = 0;
  for (S& x : z) {
    x = std::exp(x - hi);
    sum += x;
  }
  for (S& x : z) {
    x /= sum;
  }
  return z;
}

template <class S>
void check_against_naive(double factor,
                         std::vector<double> const& logits,
                         std::size_t T,
                         std::size_t E,
                         std::vector<std::uint8_t> const& mask = {})
{
  auto const got =
      expert_choice<S>(factor, logits, static_cast<index_t>(T), static_cast<index_t>(E), mask);
  auto const tokens = static_cast<double>(T);
  auto const C      = static_cast<std::size_t>(
      std::min(tokens, std::ceil(factor * tokens / static_cast<double>(E))));
  std::vector<std::vector<S>> score;
  for (std::size_t t = 0; t < T; ++t) {
    score.push_back(row_scores<S>(logits, t, E));
  }
  std::vector<std::vector<Id>> takers(T);  // of each token, ascending
  for (std::size_t e = 0; e < E; ++e) {
    std::vector<std::size_t> order;
    for (std::size_t t = 0; t < T; ++t) {
      if (mask.empty() || mask[t] != 0) { order.push_back(t); }
    }
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return static_cast<float>(score[a][e]) > static_cast<float>(score[b][e]);
    });
    order.resize(std::min(C, order.size()));
    for (std::size_t const t : order) {
      takers[t].push_back(static_cast<Id>(e));
    }
  }
  REQUIRE(got.offsets.size() == T + 1);
  REQUIRE(got.expert.size() == C * E);
  CHECK(got.offsets.front() == 0);
  CHECK(got.offsets.back() == static_cast<Id>(C * E));
  for (std::size_t t = 0; t < T; ++t) {
    CAPTURE(t);
    auto const from = static_cast<std::size_t>(got.offsets[t]);
    auto const to   = static_cast<std::size_t>(got.offsets[t + 1]);
    REQUIRE(from <= to);
    bool const live = mask.empty() || mask[t] != 0;
    if (live) { REQUIRE(to - from == takers[t].size()); }
    for (std::size_t a = from; a < to; ++a) {
      CHECK(got.token[a] == static_cast<Id>(t));
      Id const e = live ? takers[t][a - from] : no_expert;
      CHECK(got.expert[a] == e);
      double const w = live ? double{score[t][static_cast<std::size_t>(e)]} : 0.0;
      CHECK(std::abs(got.weight[a] - w) <= 1e-6 * w);
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("each expert takes its best tokens", S, float, double)
{
  for (std::size_t const T : {0u, 1u, 2u, 7u, 129u}) {
    for (std::size_t const E : {1u, 2u, 5u, 8u}) {
      for (double const factor : {0.01, 0.5, 1.0, 1.3, 2.0, 8.0, 1e300}) {
        CAPTURE(T);
        CAPTURE(E);
        CAPTURE(factor);
        check_against_naive<S>(
            factor, test::uniform_numbers(T * E, static_cast<unsigned>(T), -3, 3), T, E);
      }
    }
  }
}

TEST_CASE("ties go to the smaller token")
{
  check_against_naive<float>(1, std::vector<double>(9 * 4, 1.0), 9, 4);
  auto z = test::uniform_numbers(40 * 4, 3, -1.4, 1.4);
  std::transform(z.begin(), z.end(), z.begin(), [](double x) { return std::round(x); });
  check_against_naive<float>(1, z, 40, 4);
  check_against_naive<double>(2, z, 40, 4);
}

TEST_CASE("masked tokens are taken by nobody, and what they hold does not matter")
{
  std::size_t const T = 30, E = 4;
  auto z = test::uniform_numbers(T * E, 4, -3, 3);
  std::vector<std::uint8_t> mask(T, 1);
  for (std::size_t const t : {0u, 3u, 4u, 17u, 29u}) {
    mask[t] = 0;
    std::fill_n(z.begin() + static_cast<std::ptrdiff_t>(t * E), E, t == 3 ? not_a_number : 50.0);
  }
  check_against_naive<double>(1, z, T, E, mask);
  check_against_naive<double>(4, z, T, E, mask);  // more slots than tokens
  check_against_naive<float>(2, z, T, E, std::vector<std::uint8_t>(T, 0));
}

TEST_CASE("logits that are not finite, and ones a double's softmax loses")
{
  std::size_t const T = 12, E = 3;
  auto z = test::uniform_numbers(T * E, 5, -3, 3);
  for (std::size_t i = 0; i < z.size(); i += 4) {
    z[i] = std::vector{not_a_number, infinite, -infinite, 1e30, -800.0}[i / 4 % 5];
  }
  std::fill_n(z.begin() + 9, 3, not_a_number);
  for (double const factor : {0.25, 1.0, 3.0}) {
    check_against_naive<float>(factor, z, T, E);
    check_against_naive<double>(factor, z, T, E);
  }
}

TEST_CASE("threads do not show")
{
  auto const z   = test::uniform_numbers(3000 * 7, 6, -3, 3);
  auto const one = expert_choice<float>(1.5, z, 3000, 7, {}, 1);
  auto const two = expert_choice<float>(1.5, z, 3000, 7, {}, 3);
  CHECK(one.offsets == two.offsets);
  CHECK(one.token == two.token);
  CHECK(one.expert == two.expert);
  CHECK(one.weight == two.weight);
}

TEST_CASE("the gradient, ids held: tokens with several experts, with one, with none, masked")
{
  index_t const T = 7, E = 4;
  Host const exec{{.threads = 2}};
  ExpertChoice const router{.factor = 1.2};
  auto const z = test::uniform_numbers(static_cast<std::size_t>(T * E), 8, -2, 2);
  std::vector<std::uint8_t> const mask{1, 1, 0, 1, 1, 1, 1};
  RoutingInput<double, Host> in{.tokens = T, .experts = E, .mask = as_list(mask)};
  index_t const A = router.assignments(T, E);
  Routing<double, Host> routing(exec, T, A, 0);
  router.route(exec, SelfCommunicator{}, in, as_matrix(z, T, E), routing.view());
  auto const u = test::uniform_numbers(static_cast<std::size_t>(A), 9, -1, 1);

  auto const expert  = test::to_vector(routing.expert.const_view());
  auto const token   = test::to_vector(routing.token.const_view());
  auto const offsets = test::to_vector(routing.offsets.const_view());
  bool none = false, several = false;
  for (std::size_t t = 0; t + 1 < offsets.size(); ++t) {
    none    = none || offsets[t] == offsets[t + 1];
    several = several || offsets[t] + 1 < offsets[t + 1];
  }
  REQUIRE(none);
  REQUIRE(several);

  std::vector<double> d(z.size(), 0.5);
  router.route_backward(
      exec, in, as_matrix(z, T, E), routing.const_view(), as_list(u), as_matrix(d, T, E));
  for (double& x : d) {
    x -= 0.5;
  }
  auto const value = [&](std::vector<double> const& logits) {
    double sum = 0;
    for (std::size_t a = 0; a < expert.size(); ++a) {
      if (expert[a] < 0) { continue; }
      auto const p = row_scores<double>(
          logits, static_cast<std::size_t>(token[a]), static_cast<std::size_t>(E));
      sum += u[a] * p[static_cast<std::size_t>(expert[a])];
    }
    return sum;
  };
  test::check_gradient(value, z, d);
}

TEST_CASE("no gradient into logits that are not finite")
{
  index_t const T = 3, E = 3;
  Host const exec{{.threads = 1}};
  ExpertChoice const router{.factor = 3};  // all take all
  std::vector<double> const z{
      not_a_number, 1, 2, infinite, 0, -infinite, -infinite, not_a_number, -infinite};
  RoutingInput<double, Host> const in{.tokens = T, .experts = E};
  Routing<double, Host> routing(exec, T, router.assignments(T, E), 0);
  router.route(exec, SelfCommunicator{}, in, as_matrix(z, T, E), routing.view());
  std::vector<double> const u{1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::vector<double> d(9, 0.0);
  router.route_backward(
      exec, in, as_matrix(z, T, E), routing.const_view(), as_list(u), as_matrix(d, T, E));
  for (std::size_t i = 0; i < 9; ++i) {
    CAPTURE(i);
    CHECK(std::isfinite(d[i]));
    if (!std::isfinite(z[i])) { CHECK(d[i] == 0); }
  }
  CHECK(d[1] != 0);
  auto const weight = test::to_vector(routing.weight.const_view());
  for (std::size_t i = 6; i < 9; ++i) {
    CHECK(weight[i] == doctest::Approx(1. / 3));  // a row without a finite logit is uniform
  }
}

TEST_CASE("factors that are none are refused")
{
  Check const check{"moe::Layer"};
  ExpertChoice{.factor = 1e-3}.check(check, 4);
  for (double const factor : {0.0, -1.0, not_a_number, infinite}) {
    CHECK_THROWS_AS(ExpertChoice{.factor = factor}.check(check, 4), ValueError);
  }
}
