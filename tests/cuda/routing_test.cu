// From the same logits Host and Cuda choose the same experts, wherever the scores that decide
// differ by more than 8 ulp, with weights within 4e-6.
#include "support/space.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <string>

#include <moe/moe.cuh>

using namespace moe;
using namespace moe::test;

namespace {

constexpr index_t tokens = 1031;
constexpr double nan     = std::numeric_limits<double>::quiet_NaN(),
                 inf     = std::numeric_limits<double>::infinity();

struct Routed {
  std::vector<Id> expert, offsets, token;
  std::vector<float> weight;
};

// A value that decides, and the size of the numbers that its rounding errors are parts of.
struct Decisive {
  double value, scale;
};
// The values of one row that are compared with one another, by kind.
using DecisiveOf = std::function<std::vector<std::vector<Decisive>>(Row<float const>, RowContext)>;

bool apart(std::vector<Decisive> values)
{
  for (auto const& v : values) {
    if (!std::isfinite(v.value)) { return false; }
  }
  std::sort(
      values.begin(), values.end(), [](auto const& a, auto const& b) { return a.value < b.value; });
  for (std::size_t i = 1; i < values.size(); ++i) {
    double const scale = std::max(values[i].scale, values[i - 1].scale);
    double const ulp   = std::exp2(std::floor(std::log2(scale)) - 23);
    if (!(values[i].value - values[i - 1].value > 8 * ulp)) { return false; }
  }
  return true;
}

// Normal logits; the first rows hold ties and what is no number.
std::vector<double> logits_of(index_t columns, double deviation)
{
  auto z           = normal_numbers(tokens * columns, 4, deviation);
  auto const at    = [&](index_t row) { return z.begin() + row * columns; };
  index_t const by = columns;
  std::fill(at(0), at(0) + by, 0.5);
  std::fill(at(1), at(1) + by, nan);
  std::fill(at(2), at(2) + by, -inf);
  std::fill(at(3), at(3) + by, inf);
  at(4)[0]      = nan;
  at(5)[by - 1] = inf;
  at(6)[by / 2] = -inf;
  for (index_t i = 0; i < by; ++i) {
    at(7)[i] = static_cast<double>(i % 3);
    at(8)[i] = 1e-42 * static_cast<double>(i % 7);  // denormals
    at(9)[i] = i % 2 == 0 ? 3e38 : -3e38;
  }
  return z;
}

constexpr StepState step_state{.step = 5, .seed = 9};

template <class ExecT, class RouterT>
Routed route_on(ExecT const& exec,
                RouterT const& router,
                index_t experts,
                std::vector<double> const& logits)
{
  auto const stage      = as_stage(router);
  index_t const columns = static_cast<index_t>(logits.size()) / tokens;
  auto const z          = put<float>(exec, logits, tokens, columns);
  std::vector<int> mask(static_cast<std::size_t>(tokens), 1);
  mask[20] = mask.back() = 0;
  auto const masked      = put<std::uint8_t>(exec, mask, tokens);
  Tensor<StepState, 1, ExecT> step(exec, 1);
  exec.copy_from_host(step.view().data_handle(), &step_state, sizeof(step_state));
  RoutingInput<float, ExecT> const in{
      .tokens = tokens, .experts = experts, .mask = masked.const_view(), .step = step.const_view()};
  Routing<float, ExecT> routing(
      exec, tokens, stage.assignments(tokens, experts), moe::detail::top_k_of<RouterT>());
  stage.route(exec, SelfCommunicator{}, in, z.const_view(), routing.view());
  return {get(exec, routing.expert.const_view()),
          get(exec, routing.offsets.const_view()),
          get(exec, routing.token.const_view()),
          get(exec, routing.weight.const_view())};
}

double weight_error(float a, float b)
{
  return a == b ? 0 : std::abs(a - b) / std::abs(static_cast<double>(b));
}

// make(exec) gives the router for a space. Without `decisive` the logits themselves decide, which
// are the same bits on both.
template <class Make>
void check_router(std::string const& name,
                  index_t experts,
                  Make const& make,
                  DecisiveOf const& decisive = {},
                  double deviation           = 2)
{
  CAPTURE(name);
  CAPTURE(experts);
  Host const host{{.threads = 2}};
  Cuda const cuda;
  auto const router = make(host);
  using RouterT     = std::decay_t<decltype(router)>;
  constexpr int K   = RouterT::top_k;
  auto const logits = logits_of(logit_columns<RouterT>(experts), deviation);
  auto const a      = route_on(host, router, experts, logits);
  auto const b      = route_on(cuda, make(cuda), experts, logits);

  std::vector<float> const z(logits.begin(), logits.end());
  index_t const columns = static_cast<index_t>(z.size()) / tokens;
  index_t compared = 0, wrong_ids = 0, out_of_range = 0;
  double worst = 0;
  for (index_t t = 0; t < tokens; ++t) {
    auto const from = static_cast<std::size_t>(t * K);
    bool const goes = t != 20 && t != tokens - 1;
    std::set<Id> distinct;
    for (std::size_t k = from; k < from + K; ++k) {
      distinct.insert(b.expert[k]);
      bool const in_range = goes ? b.expert[k] >= 0 && b.expert[k] < experts : b.expert[k] == -1;
      out_of_range += in_range && std::isfinite(b.weight[k]) ? 0 : 1;
    }
    out_of_range += goes && distinct.size() != K ? 1 : 0;
    bool decided = true;
    if (decisive && goes) {
      RowContext const ctx{.token = t, .training = true, .step = step_state};
      for (auto const& kind : decisive({z.data() + t * columns, columns}, ctx)) {
        decided = decided && apart(kind);
      }
    }
    if (!decided) { continue; }
    ++compared;
    for (std::size_t k = from; k < from + K; ++k) {
      if (a.expert[k] != b.expert[k]) {
        ++wrong_ids;
      } else {
        worst = std::max(worst, weight_error(b.weight[k], a.weight[k]));
      }
    }
  }
  CHECK(out_of_range == 0);
  CHECK(wrong_ids == 0);
  CHECK(worst <= 4e-6);
  CHECK(compared > tokens * 9 / 10);
}

double sigmoid_of(double z)
{
  return z < 0 ? std::exp(z) / (1 + std::exp(z)) : 1 / (1 + std::exp(-z));
}

}  // namespace

TEST_CASE("routers that choose by logits: the same experts, ties and what is no number too")
{
  for (index_t const E : {8, 33, 64, 257, 1024}) {
    check_router(
        "softmax, renormalised", E, [](auto const&) { return SoftmaxTopK<2, renormalized>{}; });
    check_router("softmax", E, [](auto const&) { return SoftmaxTopK<8>{.scale = 2}; });
    check_router("switch", E, [](auto const&) { return SwitchRouter{}; });
    check_router("softmax after", E, [](auto const&) { return TopKSoftmax<4>{}; });
    check_router("sigmoid", E, [](auto const&) { return SigmoidTopK<3, renormalized>{}; });
    check_router(
        "sqrt softplus", E, [](auto const&) { return SqrtSoftplusTopK<6, lp_normalized<2>>{}; });
    if (E >= 32) {
      check_router("softmax, 32", E, [](auto const&) { return SoftmaxTopK<32, renormalized>{}; });
    }
  }
}

TEST_CASE(
    "the quicker way for routers that choose by logits gives what any router gets, bit for bit" *
    doctest::test_suite("small"))
{
  Cuda const cuda;
  auto const check = [&](auto const& router, index_t E) {
    using RouterT     = std::decay_t<decltype(router)>;
    constexpr int K   = RouterT::top_k;
    auto const logits = put<float>(cuda, logits_of(E, 2), tokens, E);
    std::vector<int> m(static_cast<std::size_t>(tokens), 1);
    m[20] = m.back() = 0;
    auto const mask  = put<std::uint8_t>(cuda, m, tokens);
    auto const route = [&](auto const& by) {
      Routing<float, Cuda> to(cuda, tokens, tokens * K, K);
      cuda.zero(to.expert.view().data_handle(), to.expert.bytes());
      cuda.zero(to.weight.view().data_handle(), to.weight.bytes());
      by(moe::detail::RouteRow<RouterT, float, Cuda>{
          router,
          {.tokens = tokens, .experts = E, .mask = mask.const_view()},
          logits.const_view(),
          to.view()});
      return std::pair{get(cuda, to.expert.const_view()), get(cuda, to.weight.const_view())};
    };
    CAPTURE(E);
    CAPTURE(K);
    bool taken       = false;
    auto const quick = route([&](auto const& row) { taken = route_by_logits(cuda, row); });
    auto const plain = route([&](auto const& row) { cuda.for_each_row(tokens, row); });
    CHECK(taken == (E % 4 == 0 && E <= 256));
    if (taken) { CHECK(quick == plain); }
  };
  for (index_t const E : {32, 36, 64, 100, 127, 128, 132, 256, 260}) {
    check(SoftmaxTopK<8, renormalized>{}, E);
    check(SoftmaxTopK<32>{.scale = 2}, E);
    check(SwitchRouter{}, E);
    check(TopKSoftmax<4>{}, E);
    check(SigmoidTopK<3, renormalized>{.scale = 2.5}, E);
    check(SqrtSoftplusTopK<6, lp_normalized<2>>{}, E);
  }
}

TEST_CASE("by biased scores and by groups")
{
  constexpr index_t E = 64, groups = 8, size = E / groups;
  auto const bias    = normal_numbers(E, 3, 0.1);
  auto const on_host = put<float>(Host{}, bias, E);
  auto const on_cuda = put<float>(Cuda{}, bias, E);
  auto const biased  = [&](auto router) {
    using SpaceT = typename decltype(router)::bias_space;
    if constexpr (std::is_same_v<SpaceT, Host>) {
      router.bias = on_host.const_view();
    } else {
      router.bias = on_cuda.const_view();
    }
    return router;
  };
  auto const scores = [&](bool with_bias) {
    return [&bias, with_bias](Row<float const> z) {
      std::vector<Decisive> of_expert;
      for (Id e = 0; e < z.size(); ++e) {
        double const b = with_bias ? double(float(bias[static_cast<std::size_t>(e)])) : 0;
        double const s = sigmoid_of(double(z[e]));
        of_expert.push_back({s + b, std::max(s, std::abs(b))});
      }
      return of_expert;
    };
  };
  check_router(
      "sigmoid, biased",
      E,
      [&]<class ExecT>(ExecT const&) {
        return biased(SigmoidTopK<6, renormalized, ungrouped, ExecT>{.scale = 2.5});
      },
      [&](Row<float const> z, RowContext) {
        return std::vector<std::vector<Decisive>>{scores(true)(z)};
      });
  auto const grouped = [&](bool with_bias, int best) {
    return [=](Row<float const> z, RowContext) {
      auto const of_expert = scores(with_bias)(z);
      std::vector<Decisive> of_group;
      for (index_t g = 0; g < groups; ++g) {
        std::vector<double> s;
        for (index_t i = 0; i < size; ++i) {
          s.push_back(of_expert[static_cast<std::size_t>(g * size + i)].value);
        }
        std::sort(s.begin(), s.end(), std::greater<>{});
        double const sum = s[0] + (best > 1 ? s[1] : 0);
        of_group.push_back({sum, std::abs(s[0]) + std::abs(s[1])});
      }
      return std::vector<std::vector<Decisive>>{of_expert, of_group};
    };
  };
  check_router(
      "sigmoid, biased, groups by their two best",
      E,
      [&]<class ExecT>(ExecT const&) {
        return biased(SigmoidTopK<8, renormalized, group_limited<top2_sum>, ExecT>{
            .scale = 2.5, .group = {.groups = groups, .kept = 4}});
      },
      grouped(true, 2));
  check_router(
      "sigmoid, groups by their best",
      E,
      [&](auto const&) {
        return SigmoidTopK<4, unnormalized, group_limited<group_maximum>>{
            .group = {.groups = groups, .kept = 3}};
      },
      grouped(false, 1));
}

TEST_CASE("with noise")
{
  constexpr index_t E = 64;
  check_router(
      "noisy",
      E,
      [](auto const&) { return NoisyTopK<2>{}; },
      [](Row<float const> z, RowContext ctx) {
        std::vector<Decisive> of_expert;
        for (Id e = 0; e < E; ++e) {
          double const raw   = double(z[E + e]);
          double const width = std::max(raw, 0.) + std::log1p(std::exp(-std::abs(raw)));
          double const noise = double(random_normal<float>(ctx, e)) * (width + 1e-2);
          double const clean = double(z[e]);
          of_expert.push_back({clean + noise, std::max(std::abs(clean), std::abs(noise))});
        }
        return std::vector<std::vector<Decisive>>{of_expert};
      },
      0.5);  // of logits that are several units apart, weights are off by their rounding
}

TEST_CASE("expert choice")
{
  constexpr index_t E = 16;
  Host const host{{.threads = 2}};
  Cuda const cuda;
  // Rows of numbers alone: an expert compares tokens.
  auto const logits = normal_numbers(tokens * E, 8, 2);
  for (double const factor : {0.5, 1.5, 16.}) {
    CAPTURE(factor);
    ExpertChoice const router{.factor = factor};
    std::vector<double> p(logits.size());
    for (std::size_t t = 0; t < std::size_t{tokens}; ++t) {
      double sum = 0;
      for (std::size_t e = 0; e < std::size_t{E}; ++e) {
        sum += p[t * E + e] = std::exp(double(float(logits[t * E + e])));
      }
      for (std::size_t e = 0; e < std::size_t{E}; ++e) {
        p[t * E + e] /= sum;
      }
    }
    auto const C = static_cast<std::size_t>(router.slots(tokens, E));
    for (std::size_t e = 0; e < std::size_t{E}; ++e) {  // the last in and the first out
      std::vector<double> column;
      for (std::size_t t = 0; t < std::size_t{tokens}; ++t) {
        if (t != 20 && t != std::size_t{tokens} - 1) { column.push_back(p[t * E + e]); }
      }
      std::sort(column.begin(), column.end(), std::greater<>{});
      if (C < column.size()) { REQUIRE(column[C - 1] - column[C] > 8e-7 * column[C]); }
    }
    auto const a = route_on(host, router, E, logits);
    auto const b = route_on(cuda, router, E, logits);
    CHECK(a.offsets == b.offsets);
    CHECK(a.token == b.token);
    CHECK(a.expert == b.expert);
    double worst = 0;
    for (std::size_t i = 0; i < a.weight.size(); ++i) {
      worst = std::max(worst, weight_error(b.weight[i], a.weight[i]));
    }
    CHECK(worst <= 4e-6);
  }
}

TEST_CASE("bad input is counted as on Host" * doctest::test_suite("small"))
{
  constexpr index_t E = 37;
  Host const host;
  Cuda const cuda;
  auto const logits = logits_of(E, 2);
  // Of fixed K, and of lists of varying length, behind which are ids of no token.
  for (int const K : {3, 0}) {
    index_t const A = tokens * 3;
    std::vector<index_t> ids, offsets{0}, token;
    for (index_t a = 0; a < A; ++a) {
      ids.push_back(a % 7 - 3);
    }
    for (index_t t = 0; t < tokens; ++t) {
      offsets.push_back(offsets.back() + (t % 5 == 0 ? 0 : 2));
    }
    token.resize(static_cast<std::size_t>(A));
    auto const count = [&](auto const& exec) {
      using ExecT  = std::decay_t<decltype(exec)>;
      auto const z = put<float>(exec, logits, tokens, E);
      std::vector<int> m(static_cast<std::size_t>(tokens), 1);
      m[1] = m[4]     = 0;
      auto const mask = put<std::uint8_t>(exec, m, tokens);
      Routing<float, ExecT> routing(exec, tokens, A, K);
      routing.expert = put<Id>(exec, ids, A);
      if (K == 0) {
        routing.offsets = put<Id>(exec, offsets, tokens + 1);
        routing.token   = put<Id>(exec, token, A);
      }
      auto non_finite = put<Id>(exec, std::vector<int>{-5}, 1);
      auto invalid    = put<Id>(exec, std::vector<int>{-5}, 1);
      count_bad_input(
          exec,
          RoutingInput<float, ExecT>{.tokens = tokens, .experts = E, .mask = mask.const_view()},
          z.const_view(),
          routing,
          non_finite.view(),
          invalid.view());
      return std::pair{get(exec, non_finite.const_view()), get(exec, invalid.const_view())};
    };
    CAPTURE(K);
    auto const on_host = count(host);
    CHECK(on_host.first[0] > 0);
    CHECK(on_host.second[0] > 0);
    CHECK(count(cuda) == on_host);
  }
}

TEST_CASE("the selection bias moves as on Host")
{
  Host const host;
  Cuda const cuda;
  for (index_t const E : {1, 3, 64, 257}) {
    CAPTURE(E);
    std::vector<index_t> counts;
    for (index_t e = 0; e < E; ++e) {
      counts.push_back(e % 5 == 0 ? 2147483647 - e : e * 7919 % 1000);
    }
    auto const moved = [&](auto const& exec, Recentre recentre) {
      auto const count = put<Id>(exec, counts, E);
      auto bias        = put<float>(exec, normal_numbers(E, 6), E);
      update_selection_bias(exec, count.const_view(), bias.view(), 0.125f, recentre);
      return get_numbers(exec, bias.const_view());
    };
    CHECK(moved(cuda, Recentre::no) == moved(host, Recentre::no));
    CHECK(relative_error(moved(cuda, Recentre::yes), moved(host, Recentre::yes)) < 1e-7);
  }
}
