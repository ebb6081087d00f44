// The way back of every router is the gradient of its weights, ids held.
#include <moe/exec/host.hpp>
#include <moe/route/noisy_top_k_router.hpp>
#include <moe/route/scored_router.hpp>
#include <moe/route/top_k_softmax_router.hpp>
#include <support/route_check.hpp>

using namespace moe;
using moe::test::check_route_gradient, moe::test::spaced_logits;

namespace {

std::vector<float> random_bias(std::size_t experts, unsigned seed)
{
  auto const wide = moe::test::uniform_numbers(experts, seed, -0.4, 0.4);
  return {wide.begin(), wide.end()};
}

// Without and with a bias on the selection, a scale and an epsilon, in one group and in several.
template <int K, class ScoreT, class NormT>
void check_scored(std::size_t experts)
{
  CAPTURE(K);
  CAPTURE(experts);
  auto const z    = spaced_logits(experts, K + 7u);
  auto const bias = random_bias(experts, K + 1u);
  check_route_gradient(ScoredTopK<K, ScoreT, NormT>{}, z);
  check_route_gradient(
      ScoredTopK<K, ScoreT, NormT>{
          .scale = 2.5, .epsilon = 0.125, .bias = moe::test::as_list(bias)},
      z);
  if constexpr (K <= 8) {
    ScoredTopK<K, ScoreT, NormT, group_limited<top2_sum>> grouped{.scale = 16,
                                                                  .bias = moe::test::as_list(bias)};
    grouped.group = {.groups = 4, .kept = 2};
    check_route_gradient(grouped, spaced_logits(32, K + 70u));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("score routers", ScoreT, softmax_score, sigmoid_score, sqrt_softplus_score)
{
  check_scored<1, ScoreT, unnormalized>(32);
  check_scored<2, ScoreT, unnormalized>(32);
  check_scored<5, ScoreT, renormalized>(33);
  check_scored<32, ScoreT, renormalized>(40);
  check_scored<3, ScoreT, lp_normalized<2>>(32);
}

TEST_CASE("score routers at the sizes of published models, and with all experts chosen")
{
  check_route_gradient(SwitchRouter{}, spaced_logits(5, 3));
  check_route_gradient(SoftmaxTopK<2, renormalized>{}, spaced_logits(8, 3));
  check_route_gradient(SoftmaxTopK<8, renormalized>{}, spaced_logits(128, 4, 0.03));
  check_route_gradient(SoftmaxTopK<4, lp_normalized<2>>{.scale = 3, .epsilon = 1e-2},
                       spaced_logits(16, 5));
  check_route_gradient(SoftmaxTopK<4, lp_normalized<3>>{}, spaced_logits(4, 6));
  check_route_gradient(SoftmaxTopK<16>{}, spaced_logits(17, 7));
  check_route_gradient(SoftmaxTopK<31, renormalized>{}, spaced_logits(31, 8));
  check_route_gradient(SigmoidTopK<32>{}, spaced_logits(32, 9));
}

TEST_CASE("groups by each rule, experts of the others counted as 0 included")
{
  auto const z    = spaced_logits(24, 11);
  auto const bias = random_bias(24, 12);
  SoftmaxTopK<6, unnormalized, group_limited<group_maximum>> maximum{.scale = 16};
  maximum.group = {.groups = 8, .kept = 3};
  check_route_gradient(maximum, z);
  SigmoidTopK<6, renormalized, group_limited<top_k_share_sum>> share{.bias =
                                                                         moe::test::as_list(bias)};
  share.group = {.groups = 6, .kept = 3};
  check_route_gradient(share, z);
  SigmoidTopK<6, renormalized, group_limited<top2_sum, zero_hf_compat>> compat{
      .bias = moe::test::as_list(bias)};
  compat.group = {.groups = 6, .kept = 1};
  check_route_gradient(compat, z);
}

TEST_CASE("softmax of the chosen logits")
{
  check_route_gradient(TopKSoftmax<2>{}, spaced_logits(8, 21));
  check_route_gradient(TopKSoftmax<5>{}, spaced_logits(33, 22));
  check_route_gradient(TopKSoftmax<32>{}, spaced_logits(64, 23, 0.05));
  check_route_gradient(TopKSoftmax<32>{}, spaced_logits(32, 24, 0.05));
}

TEST_CASE("noisy top-k, through the logits and through the noise's width")
{
  for (index_t token : {0, 3, 8}) {
    RowContext const ctx{.token = token, .step = {.step = 5, .seed = 77}};
    check_route_gradient(NoisyTopK<2>{}, moe::test::uniform_numbers(2 * 8, 31, -1, 1), ctx);
    check_route_gradient(
        NoisyTopK<4>{.min_noise = 0.5}, moe::test::uniform_numbers(2 * 16, 32, -1, 1), ctx);
    check_route_gradient(NoisyTopK<32>{}, moe::test::uniform_numbers(2 * 32, 33, -9, 9), ctx);
  }
}

TEST_CASE("noisy top-k in evaluation: no noise, and no gradient to its width")
{
  RowContext const ctx{.training = false};
  auto const z     = spaced_logits(16, 34);
  auto const noisy = NoisyTopK<4>{}.route(SerialTeam{}, ctx, moe::test::as_row(z));
  std::vector<double> const clean(z.begin(), z.begin() + 8);
  auto const plain = TopKSoftmax<4>{}.route(SerialTeam{}, ctx, moe::test::as_row(clean));
  CHECK(noisy.expert == plain.expert);
  CHECK(noisy.weight == plain.weight);
  check_route_gradient(NoisyTopK<4>{}, z, ctx);

  std::vector<double> d(z.size(), 0.0);
  NoisyTopK<4>{}.route_backward(
      SerialTeam{}, ctx, moe::test::as_row(z), noisy, {{1, -1, 2, 3}}, moe::test::as_row(d));
  CHECK(std::all_of(d.begin() + 8, d.end(), [](double x) { return x == 0; }));
}
