// Routers on logits that are no numbers: K distinct experts in range, finite weights and gradients,
// and no gradient into such a logit.
#include <moe/exec/host.hpp>
#include <moe/route/noisy_top_k_router.hpp>
#include <moe/route/route.hpp>
#include <moe/route/scored_router.hpp>
#include <moe/route/top_k_softmax_router.hpp>
#include <support/route_check.hpp>

#include <set>

using namespace moe;
using moe::test::as_list, moe::test::as_matrix, moe::test::as_row, moe::test::infinite,
    moe::test::not_a_number;

namespace {

std::vector<std::vector<double>> hostile_rows(std::size_t n)
{
  double const most = std::numeric_limits<float>::max();
  std::vector<double> const special{
      not_a_number, infinite, -infinite, most, -most, 1e-45, -0.0, 200, -200};
  std::vector<std::vector<double>> rows;
  for (double const s : special) {
    rows.emplace_back(n, s);
    rows.push_back(test::spaced_logits(n, 1));
    rows.back()[n / 2] = s;
    rows.push_back(test::spaced_logits(n, 2));
    rows.back().front() = s;
    rows.back().back()  = s;
    rows.emplace_back(n, s);
    rows.back()[n / 3] = 0.5;
  }
  for (unsigned seed = 0; seed < 30; ++seed) {
    auto z = test::spaced_logits(n, seed);
    std::minstd_rand random(seed + 1);
    for (double& x : z) {
      if (random() / 7 % 2 == 0) { x = special[random() / 7 % special.size()]; }
    }
    rows.push_back(z);
  }
  return rows;
}

template <class S, RowRouter RouterT>
void check_hostile(RouterT const& router, std::size_t columns, std::size_t experts)
{
  constexpr int K = RouterT::top_k;
  for (auto const& wide : hostile_rows(columns)) {
    std::vector<S> const z(wide.begin(), wide.end());
    auto const c = router.route(SerialTeam{}, RowContext{.token = 5}, as_row(z));
    std::set<Id> const distinct(c.expert.begin(), c.expert.end());
    CHECK(distinct.size() == std::size_t{K});
    CHECK(*distinct.begin() >= 0);
    CHECK(*distinct.rbegin() < static_cast<Id>(experts));
    Array<S, K> u{};
    for (int k = 0; k < K; ++k) {
      CHECK(std::isfinite(c.weight[k]));
      CHECK(c.weight[k] >= 0);
      u[k] = static_cast<S>(k + 1);
    }
    std::vector<S> d(columns, S(0));
    router.route_backward(SerialTeam{}, RowContext{.token = 5}, as_row(z), c, u, as_row(d));
    for (std::size_t i = 0; i < columns; ++i) {
      CAPTURE(i);
      CHECK(std::isfinite(d[i]));
      if (!std::isfinite(z[i])) { CHECK(d[i] == 0); }
    }
  }
}

template <class RouterT>
Array<double, RouterT::top_k> weights(RouterT const& router, std::vector<double> const& z)
{
  return router.route(SerialTeam{}, RowContext{}, as_row(z)).weight;
}

}  // namespace

TEST_CASE_TEMPLATE("hostile rows", S, float, double)
{
  std::vector<float> const bias(16, -0.5f);
  check_hostile<S>(SwitchRouter{}, 16, 16);
  check_hostile<S>(SoftmaxTopK<4>{}, 16, 16);
  check_hostile<S>(SoftmaxTopK<16, renormalized>{}, 16, 16);
  check_hostile<S>(SoftmaxTopK<4, lp_normalized<2>>{.bias = as_list(bias)}, 16, 16);
  check_hostile<S>(SigmoidTopK<4, renormalized>{}, 16, 16);
  check_hostile<S>(SqrtSoftplusTopK<4, renormalized>{}, 16, 16);
  check_hostile<S>(TopKSoftmax<4>{}, 16, 16);
  check_hostile<S>(NoisyTopK<4>{}, 16, 8);
  SigmoidTopK<4, renormalized, group_limited<top2_sum>> grouped{.bias = as_list(bias)};
  grouped.group = {.groups = 4, .kept = 2};
  check_hostile<S>(grouped, 16, 16);
  SoftmaxTopK<4, unnormalized, group_limited<group_maximum, zero_hf_compat>> compat{
      .bias = as_list(bias)};
  compat.group = {.groups = 8, .kept = 2};
  check_hostile<S>(compat, 16, 16);
}

TEST_CASE("a row without a finite logit is uniform; -inf beside finite ones weighs nothing")
{
  for (double const none : {not_a_number, -infinite}) {
    std::vector<double> const z(4, none);
    CHECK(weights(SoftmaxTopK<2>{}, z) == Array<double, 2>{{0.25, 0.25}});
    CHECK(weights(SoftmaxTopK<2, renormalized>{}, z) == Array<double, 2>{{0.5, 0.5}});
    CHECK(weights(TopKSoftmax<2>{}, z) == Array<double, 2>{{0.5, 0.5}});
    CHECK(weights(SigmoidTopK<2, renormalized>{}, z) == Array<double, 2>{{0, 0}});
    CHECK(weights(SoftmaxTopK<2>{}, {none, 1, none, none}) == Array<double, 2>{{1, 0}});
    CHECK(weights(TopKSoftmax<2>{}, {none, none, 1, none}) == Array<double, 2>{{1, 0}});
  }
  CHECK(weights(SoftmaxTopK<2>{}, {0, infinite, 3, infinite}) == Array<double, 2>{{0.5, 0.5}});
}

TEST_CASE("scores that underflow to 0 give weights 0, not 0 / 0")
{
  std::vector<float> const z(8, -200.f);
  SigmoidTopK<2, renormalized> const by_sum;
  SigmoidTopK<2, lp_normalized<2>> const by_norm;
  CHECK(by_sum.route(SerialTeam{}, RowContext{}, as_row(z)).weight == Array<float, 2>{{0, 0}});
  CHECK(by_norm.route(SerialTeam{}, RowContext{}, as_row(z)).weight == Array<float, 2>{{0, 0}});
}

TEST_CASE("an expert with a bias of -infinity is never chosen while others are there")
{
  std::vector<float> bias(8, 0.f);
  bias[2] = bias[5] = -std::numeric_limits<float>::infinity();
  auto const biased = as_list(std::as_const(bias));
  std::vector<double> const z{0, 1, 9, 2, 3, 8, 4, 5};
  CHECK(SigmoidTopK<6>{.bias = biased}.route(SerialTeam{}, RowContext{}, as_row(z)).expert ==
        Array<Id, 6>{{7, 6, 4, 3, 1, 0}});
  SigmoidTopK<2, renormalized, group_limited<group_maximum>> grouped{.bias = biased};
  grouped.group = {.groups = 4, .kept = 2};
  CHECK(grouped.route(SerialTeam{}, RowContext{}, as_row(z)).expert == Array<Id, 2>{{7, 6}});
}

TEST_CASE_TEMPLATE(
    "the stage: masked tokens go nowhere and get no gradient; a token's index is global",
    RouterT,
    NoisyTopK<2>,
    SoftmaxTopK<2>)
{
  Host const exec{{.threads = 2}};
  index_t const T = 5, N = 8, E = N == logit_columns<RouterT>(4) ? 4 : N;
  auto const stage = as_stage(RouterT{});
  auto const z     = test::uniform_numbers(static_cast<std::size_t>(T * N), 3, -1, 1);
  std::vector<std::uint8_t> const mask{1, 0, 1, 1, 0};
  std::vector<StepState> const step{{.step = 3, .seed = 9}};
  RoutingInput<double, Host> const in{
      .tokens = T, .experts = E, .mask = as_list(mask), .step = as_list(step), .first_token = 100};
  Routing<double, Host> routing(exec, T, stage.assignments(T, E), 2);
  stage.route(exec, SelfCommunicator{}, in, as_matrix(z, T, N), routing.view());
  auto const u = test::uniform_numbers(static_cast<std::size_t>(T * 2), 4, -1, 1);
  std::vector<double> d(z.size(), 0.0);
  stage.route_backward(
      exec, in, as_matrix(z, T, N), routing.const_view(), as_list(u), as_matrix(d, T, N));

  auto const expert = test::to_vector(routing.expert.const_view());
  auto const weight = test::to_vector(routing.weight.const_view());
  for (std::size_t t = 0; t < static_cast<std::size_t>(T); ++t) {
    CAPTURE(t);
    Row<double const> const row(&z[t * 8], 8);
    RowContext const ctx{.token = 100 + static_cast<index_t>(t), .step = step[0]};
    Choice<2, double> c{{{no_expert, no_expert}}, {{0, 0}}};
    std::vector<double> expected(8, 0.0);
    if (mask[t] != 0) {
      c = RouterT{}.route(SerialTeam{}, ctx, row);
      RouterT{}.route_backward(
          SerialTeam{}, ctx, row, c, {{u[t * 2], u[t * 2 + 1]}}, as_row(expected));
    }
    for (std::size_t k = 0; k < 2; ++k) {
      CHECK(expert[t * 2 + k] == c.expert[static_cast<index_t>(k)]);
      CHECK(weight[t * 2 + k] == c.weight[static_cast<index_t>(k)]);
    }
    CHECK(std::equal(expected.begin(), expected.end(), d.begin() + static_cast<index_t>(t * 8)));
  }
}
