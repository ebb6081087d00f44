// Routing of one row, as the published models compute it, against values computed elsewhere.
#include <moe/exec/host.hpp>
#include <moe/route/scored_router.hpp>
#include <moe/route/top_k_softmax_router.hpp>
#include <support/route_check.hpp>

using namespace moe;
using moe::test::as_row;

namespace {

std::vector<double> const logits{2, 1, .5, -1, 0, 1.5, -.5, .25};

// In double, and in float for the same within float's accuracy.
template <class RouterT>
void check_choice(RouterT const& router,
                  std::vector<double> const& z,
                  std::vector<Id> const& experts,
                  std::vector<double> const& weights)
{
  auto const c = router.route(SerialTeam{}, RowContext{}, as_row(z));
  std::vector<float> const narrow(z.begin(), z.end());
  auto const f = router.route(SerialTeam{}, RowContext{}, as_row(narrow));
  REQUIRE(experts.size() == std::size_t{RouterT::top_k});
  for (std::size_t k = 0; k < experts.size(); ++k) {
    CAPTURE(k);
    auto const i = static_cast<index_t>(k);
    CHECK(c.expert[i] == experts[k]);
    CHECK(f.expert[i] == experts[k]);
    if (!weights.empty()) {
      CHECK(std::abs(c.weight[i] - weights[k]) < 1e-6);
      CHECK(std::abs(static_cast<double>(f.weight[i]) - weights[k]) < 1e-6 * (1 + weights[k]));
    }
  }
}

}  // namespace

TEST_CASE("softmax over all, two renormalised: Mixtral, Qwen3")
{
  check_choice(SoftmaxTopK<2, renormalized>{}, logits, {0, 5}, {.622459, .377541});
}

TEST_CASE("softmax over the chosen logits: GPT-OSS")
{
  check_choice(TopKSoftmax<2>{}, logits, {0, 5}, {.622459, .377541});
}

TEST_CASE("softmax over all, not renormalised: OLMoE")
{
  check_choice(SoftmaxTopK<2>{}, logits, {0, 5}, {.379000, .229875});
}

TEST_CASE("the best expert by its probability: Switch")
{
  check_choice(SwitchRouter{}, logits, {0}, {.379000});
}

TEST_CASE("the best expert by its sigmoid: Llama 4")
{
  check_choice(SigmoidTopK<1>{}, logits, {0}, {.880797});
}

TEST_CASE("normalised by the sum, and by the Euclidean norm: DBRX, MegaBlocks")
{
  check_choice(
      SoftmaxTopK<4, renormalized>{}, logits, {0, 5, 1, 2}, {.455054, .276004, .167405, .101536});
  check_choice(SoftmaxTopK<4, lp_normalized<2>>{},
               logits,
               {0, 5, 1, 2},
               {.802443, .486706, .295202, .179049});
}

TEST_CASE("groups by their best expert, and a factor: DeepSeek-V2")
{
  SoftmaxTopK<2, unnormalized, group_limited<group_maximum>> router{.scale = 16};
  router.group = {.groups = 4, .kept = 2};
  check_choice(router, logits, {0, 5}, {6.064002, 3.678003});
}

TEST_CASE("groups by their two best biased sigmoids, unbiased weights, a factor: DeepSeek-V3")
{
  std::vector<float> const bias{0, 0, 0, .6f, 0, 0, .5f, 0};
  SigmoidTopK<3, renormalized, group_limited<top2_sum>> router{.scale = 2.5};
  router.bias  = moe::test::as_list(bias);
  router.group = {.groups = 4, .kept = 2};
  check_choice(router, logits, {0, 3, 1}, {1.170776, .357483, .971740});

  // Megatron-LM's rule is the same where a kept group's share of the choice is two.
  std::vector<float> const other{0, 0, 0, .6f, 0, 0, .5f, 0};
  SigmoidTopK<4, renormalized, group_limited<top_k_share_sum>> share{.bias = router.bias};
  share.group = {.groups = 4, .kept = 2};
  SigmoidTopK<4, renormalized, group_limited<top2_sum>> two{.bias = router.bias};
  two.group    = {.groups = 4, .kept = 2};
  auto const a = share.route(SerialTeam{}, RowContext{}, as_row(logits));
  auto const b = two.route(SerialTeam{}, RowContext{}, as_row(logits));
  CHECK(a.expert == b.expert);
  CHECK(a.expert == Array<Id, 4>{{0, 3, 1, 2}});
}

TEST_CASE("square root of softplus: DeepSeek-V4")
{
  check_choice(SqrtSoftplusTopK<2, renormalized>{}, logits, {0, 5}, {.527874, .472126});
}

TEST_CASE("experts of other groups count as -infinity, or as 0 where that is asked for")
{
  // Selection scores are -c: sigmoid(0) = 1/2 for all, and biases that leave that.
  std::vector<double> const zeros(8, 0.0);
  std::vector<float> bias;
  for (float const c : {.2f, .1f, .3f, .4f, .5f, .6f, .7f, .8f}) {
    bias.push_back(-c - .5f);
  }
  SigmoidTopK<3, renormalized, group_limited<top2_sum>> official{.bias = moe::test::as_list(bias)};
  official.group = {.groups = 4, .kept = 2};
  check_choice(official, zeros, {1, 0, 2}, {1. / 3, 1. / 3, 1. / 3});

  SigmoidTopK<3, renormalized, group_limited<top2_sum, zero_hf_compat>> compat{.bias =
                                                                                   official.bias};
  compat.group = {.groups = 4, .kept = 2};
  check_choice(compat, zeros, {4, 5, 6}, {1. / 3, 1. / 3, 1. / 3});
}

TEST_CASE("the denominator's epsilon, and a selection bias on softmax scores: ERNIE-4.5")
{
  double const p0 = .379000, p5 = .229875;
  SoftmaxTopK<2, renormalized> router{.epsilon = 0.5};
  check_choice(router, logits, {0, 5}, {p0 / (p0 + p5 + .5), p5 / (p0 + p5 + .5)});

  std::vector<float> const bias{0, 0, 0, 1, 0, 0, 0, 0};
  auto const p = moe::test::softmax_of(logits);
  SoftmaxTopK<2> biased{.bias = moe::test::as_list(bias)};
  check_choice(biased, logits, {3, 0}, {p[3], p[0]});
}

TEST_CASE("a constant added to all logits changes softmax routing in nothing, and sigmoid weights")
{
  auto shifted = logits;
  for (double& z : shifted) {
    z += 3;
  }
  auto const weights = [](auto const& router, std::vector<double> const& z) {
    return router.route(SerialTeam{}, RowContext{}, as_row(z)).weight;
  };
  for (int k = 0; k < 4; ++k) {
    CHECK(std::abs(weights(SoftmaxTopK<4>{}, logits)[k] - weights(SoftmaxTopK<4>{}, shifted)[k]) <
          1e-14);
    CHECK(std::abs(weights(TopKSoftmax<4>{}, logits)[k] - weights(TopKSoftmax<4>{}, shifted)[k]) <
          1e-14);
    CHECK(weights(SigmoidTopK<4>{}, logits)[k] != weights(SigmoidTopK<4>{}, shifted)[k]);
  }
}
