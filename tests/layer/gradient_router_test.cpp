// Compile at -O1: many layers, little work in each.
// Gradients of layers: every router, gate and loss alone, with everything else at its simplest.
#include <support/layer_gradient.hpp>
#include <support/layer_policies.hpp>

using namespace moe;
using namespace moe::test;

namespace {

template <class RouterT>
void check_router(std::string const& name, RouterT const& router)
{
  check_layer_gradient(name,
                       Layer{router, Dropless{}, BatchedDispatcher<>{}, Ffn<SwiGlu>{}},
                       {.all_components = true});
}

template <class GateT>
void check_gate(std::string const& name, GateT const& gate)
{
  check_layer_gradient(
      name,
      Layer{SoftmaxTopK<2>{}, Dropless{}, BatchedDispatcher<>{}, Ffn<SwiGlu>{}, gate},
      {.all_components = true});
}

// Beside dy, and alone, where a small error would not hide behind it.
template <class LossT>
void check_loss(std::string const& name, LossT const& loss)
{
  CAPTURE(name);
  auto const layer = erase(
      Layer{SoftmaxTopK<2, renormalized>{}, Dropless{}, BatchedDispatcher<>{}, Ffn<SwiGlu>{}, loss},
      {.tokens = 12, .sequences = 3});
  check_layer_gradient(*layer);
  check_layer_gradient(*layer, {.all_components = true, .losses_alone = true});
  check_layer_gradient(*layer, {.mask = true, .losses_alone = true});
  check_layer_gradient(*layer, {.losses_alone = true, .loss_scale = 128});
}

}  // namespace

TEST_CASE("routers that weight by a score")
{
  check_router("softmax", SoftmaxTopK<3>{});
  check_router("softmax, scaled", SoftmaxTopK<2>{.scale = 16});
  check_router("softmax, renormalised", SoftmaxTopK<2, renormalized>{});
  check_router("softmax, renormalised, scaled",
               SoftmaxTopK<3, renormalized>{.scale = 2.5, .epsilon = 0.1});
  check_router("softmax, Euclidean norm", SoftmaxTopK<3, lp_normalized<2>>{});
  check_router("softmax, every expert", SoftmaxTopK<6>{});
  check_router("Switch", SwitchRouter{});
  check_router("sigmoid", SigmoidTopK<2>{});
  check_router("sigmoid, bias, groups", std::get<2>(routers));
  check_router("square root of softplus",
               SqrtSoftplusTopK<2, renormalized>{.scale = 1.5, .bias = selection_bias_view()});
}

TEST_CASE("other routers")
{
  check_router("softmax of the chosen", TopKSoftmax<3>{});
  check_router("noisy", NoisyTopK<2>{});
  check_router("noisy, wide", NoisyTopK<3>{.min_noise = 0.5});
  check_router("renormalised over the kept", RenormalizeKept{SoftmaxTopK<3>{}});
  check_router("expert choice", ExpertChoice{});
  check_router("expert choice, two experts per token", ExpertChoice{.factor = 2});
  check_router("given", GivenRouting<3>{});
}

TEST_CASE("gates")
{
  check_gate("linear", LinearGate{});
  check_gate("linear with a bias", BiasedLinearGate{});
  check_gate("low rank", LowRankGate{});
  check_gate("cosine", CosineGate{});
  check_gate("tempered", TemperedGate{LinearGate{}});
  check_gate("tempered around a cosine", TemperedGate{CosineGate{}});
}

TEST_CASE("losses")
{
  check_loss("Switch", SwitchLoss{.coeff = 2});
  check_loss("GShard", GShardLoss{.coeff = 2});
  check_loss("GShard as printed", GShardPaperLoss{.coeff = 20});
  check_loss("Mixtral", MixtralLoss{.coeff = 2});
  check_loss("MiniMind, batch", MiniMindBatchLoss{.coeff = 2});
  check_loss("MiniMind, sequences", MiniMindSequenceLoss{.coeff = 2});
  check_loss("DeepSeek, sequences", DeepSeekSequenceLoss{.coeff = 2});
  check_loss("z", RouterZLoss{.coeff = 0.5});
}
