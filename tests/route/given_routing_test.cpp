// Routing that the caller gives, and what is counted of bad input.
#include <moe/exec/host.hpp>
#include <moe/exec/host/sort.hpp>
#include <moe/route/given_routing.hpp>
#include <moe/route/load_statistics.hpp>
#include <moe/route/scored_router.hpp>
#include <support/route_check.hpp>

using namespace moe;
using moe::test::as_list, moe::test::as_matrix, moe::test::infinite, moe::test::not_a_number;

namespace {

struct Given {
  std::vector<Id> expert;
  std::vector<double> weight;
  index_t invalid;
};

template <int K>
Given take(index_t experts,
           std::vector<Id> const& expert,
           std::vector<double> const& weight,
           std::vector<std::uint8_t> const& mask = {})
{
  Host const exec{{.threads = 2}};
  auto const T = static_cast<index_t>(expert.size()) / K;
  RoutingInput<double, Host> in{.tokens       = T,
                                .experts      = experts,
                                .given_expert = as_matrix(expert, T, K),
                                .given_weight = as_matrix(weight, T, K)};
  if (!mask.empty()) { in.mask = as_list(mask); }
  GivenRouting<K> const router;
  Routing<double, Host> routing(exec, T, router.assignments(T, experts), K);
  router.route(exec, SelfCommunicator{}, in, View<double const, 2, Host>{}, routing.view());
  std::vector<Id> count{-7, -7};
  View<Id, 1, Host> const non_finite(&count[0], 1), invalid(&count[1], 1);
  count_bad_input(exec, in, View<double const, 2, Host>{}, routing, non_finite, invalid);
  CHECK(count[0] == 0);
  return {test::to_vector(routing.expert.const_view()),
          test::to_vector(routing.weight.const_view()),
          count[1]};
}

}  // namespace

TEST_CASE("ids and weights are taken as they are, an expert named twice included")
{
  auto const r = take<2>(4, {3, 0, 1, 1, 2, 0}, {0.5, -2, 0.25, 0.75, 0, 1e300});
  CHECK(r.expert == std::vector<Id>{3, 0, 1, 1, 2, 0});
  CHECK(r.weight == std::vector<double>{0.5, -2, 0.25, 0.75, 0, 1e300});
  CHECK(r.invalid == 0);
}

TEST_CASE("-1 is no expert; other ids that name none are counted; neither has a weight")
{
  Id const least = std::numeric_limits<Id>::min(), most = std::numeric_limits<Id>::max();
  auto const r =
      take<3>(4, {-1, 3, -1, 4, -2, 0, least, most, 5}, {1, 2, 3, 4, 5, 6, not_a_number, 8, 9});
  for (std::size_t a = 0; a < r.expert.size(); ++a) {
    CAPTURE(a);
    bool const goes = a == 1 || a == 5;
    CHECK((r.expert[a] >= 0) == goes);
    CHECK(r.weight[a] == (a == 1 ? 2.0 : a == 5 ? 6.0 : 0.0));
  }
  CHECK(r.expert[1] == 3);
  CHECK(r.expert[5] == 0);
  CHECK(r.invalid == 5);
}

TEST_CASE("a masked token's ids go nowhere and are not counted")
{
  auto const r = take<2>(4, {1, 9, 1, 9, -3, -1}, {1, 2, 3, 4, 5, 6}, {0, 1, 0});
  CHECK(r.expert[0] == no_expert);
  CHECK(r.expert[1] == no_expert);
  CHECK(r.expert[2] == 1);
  CHECK(r.expert[4] == no_expert);
  CHECK(r.expert[5] == no_expert);
  CHECK(r.weight == std::vector<double>{0, 0, 3, 0, 0, 0});
  CHECK(r.invalid == 1);
}

TEST_CASE("no token")
{
  auto const r = take<2>(4, {}, {});
  CHECK(r.expert.empty());
  CHECK(r.invalid == 0);
}

TEST_CASE("tokens with a NaN or infinite logit are counted once each, masked ones not")
{
  Host const exec{{.threads = 2}};
  index_t const T = 7, E = 3;
  std::vector<float> logits(static_cast<std::size_t>(T * E), 1.f);
  auto const put = [&](std::size_t t, std::size_t e, double z) {
    logits[t * 3 + e] = static_cast<float>(z);
  };
  put(0, 0, not_a_number);
  put(0, 2, infinite);
  put(2, 1, -infinite);
  put(3, 0, std::numeric_limits<float>::max());  // large, and a number
  put(4, 2, not_a_number);                       // masked
  put(6, 0, infinite);
  std::vector<std::uint8_t> const mask{1, 1, 1, 1, 0, 1, 1};
  RoutingInput<float, Host> in{.tokens = T, .experts = E};
  Routing<float, Host> routing(exec, T, T * 2, 2);
  as_stage(SoftmaxTopK<2>{})
      .route(exec, SelfCommunicator{}, in, as_matrix(std::as_const(logits), T, E), routing.view());
  std::vector<Id> count(2);
  View<Id, 1, Host> const non_finite(&count[0], 1), invalid(&count[1], 1);
  auto const z = as_matrix(std::as_const(logits), T, E);
  count_bad_input(exec, in, z, routing, non_finite, invalid);
  CHECK(count == std::vector<Id>{4, 0});
  in.mask = as_list(mask);
  count_bad_input(exec, in, z, routing, non_finite, invalid);
  CHECK(count == std::vector<Id>{3, 0});
}

TEST_CASE("load statistics are what their names say")
{
  LoadStatistics s;
  s.tokens_per_expert = {6, 0, 2, 0};
  s.kept_per_expert   = {4, 0, 2, 0};
  s.dropped           = {5, 7};
  s.assigned          = 8;
  CHECK(s.fraction(0) == 0.75);
  CHECK(s.fraction(1) == 0);
  CHECK(s.fraction(2) == 0.25);
  CHECK(s.dropped_fraction() == 0.25);
  CHECK(s.max_over_mean() == 3);
  CHECK(s.idle_experts() == 2);
  CHECK(s.entropy() == doctest::Approx(-0.75 * std::log(0.75) - 0.25 * std::log(0.25)));

  LoadStatistics balanced;
  balanced.tokens_per_expert.assign(16, 3);
  balanced.assigned = 48;
  CHECK(balanced.max_over_mean() == doctest::Approx(1));
  CHECK(balanced.entropy() == doctest::Approx(std::log(16)));
  CHECK(balanced.idle_experts() == 0);
  CHECK(balanced.dropped_fraction() == 0);

  LoadStatistics nothing;
  nothing.tokens_per_expert.assign(4, 0);
  CHECK(nothing.fraction(2) == 0);
  CHECK(nothing.max_over_mean() == 0);
  CHECK(nothing.entropy() == 0);
  CHECK(nothing.dropped_fraction() == 0);
  CHECK(nothing.idle_experts() == 4);
}

TEST_CASE("statistics are read from the plan")
{
  Host const exec{{.threads = 1}};
  index_t const E = 3, A = 6;
  RoutingPlan<Host> plan(exec, SlotLayout::compact, E, A, A);
  auto const fill = [](View<Id, 1, Host> to, std::vector<Id> const& from) {
    std::copy(from.begin(), from.end(), to.data_handle());
  };
  fill(plan.tokens_per_expert.view(), {4, 0, 1});
  fill(plan.kept_per_expert.view(), {2, 0, 1});
  fill(plan.dropped_list.view(), {3, 5, -9, -9, -9, -9});  // only the first two are live
  fill(plan.dropped_count.view(), {2});
  std::vector<Id> const non_finite{11}, invalid{13};
  auto const s = read_statistics(exec, plan, as_list(non_finite), as_list(invalid));
  CHECK(s.tokens_per_expert == std::vector<Id>{4, 0, 1});
  CHECK(s.kept_per_expert == std::vector<Id>{2, 0, 1});
  CHECK(s.dropped == std::vector<Id>{3, 5});
  CHECK(s.assigned == 5);
  CHECK(s.non_finite_tokens == 11);
  CHECK(s.invalid_ids == 13);
}
