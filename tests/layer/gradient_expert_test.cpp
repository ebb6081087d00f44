// Compile at -O1: many layers, little work in each.
// Gradients of layers: every activation with and without biases, and every shared expert.
#include <support/layer_gradient.hpp>

using namespace moe;
using namespace moe::test;

namespace {

template <class ExpertT, class... SharedT>
void check_expert(std::string const& name, ExpertT const& expert, SharedT const&... shared)
{
  check_layer_gradient(
      name,
      Layer{SoftmaxTopK<2, renormalized>{}, Dropless{}, BatchedDispatcher<>{}, expert, shared...},
      {.all_components = true});
}

template <class ActivationT>
void check_activation(std::string const& name, ActivationT const& activation)
{
  check_expert(name, Ffn<ActivationT>{activation});
  check_expert(name + " with biases", Ffn<ActivationT, with_bias>{activation});
}

}  // namespace

TEST_CASE("activations")
{
  check_activation("ReLU", Relu{});
  check_activation("squared ReLU", SquaredRelu{});
  check_activation("GELU", Gelu{});
  check_activation("SiLU", Silu{});
  check_activation("SwiGLU", SwiGlu{});
  check_activation("GeGLU", GeGlu{});
  check_activation("clamped gate", ClampedGlu{.limit = 0.5});
}

TEST_CASE("shared experts")
{
  Ffn<SwiGlu> const routed{};
  check_expert("shared", routed, SharedExpert<Ffn<SwiGlu>>{});
  check_expert("shared with biases", routed, SharedExpert<Ffn<Gelu, with_bias>>{});
  check_expert("gated", routed, SharedExpert<Ffn<SwiGlu>, sigmoid_gated>{});
  check_expert(
      "gated with biases", routed, SharedExpert<Ffn<ClampedGlu, with_bias>, sigmoid_gated>{});
}

TEST_CASE("a shared expert is all that is left when everything is dropped")
{
  auto const layer = erase(Layer{SoftmaxTopK<2>{},
                                 DropByPosition{FixedCapacity{0}},
                                 BatchedDispatcher<>{},
                                 Ffn<SwiGlu>{},
                                 SharedExpert<Ffn<SwiGlu>>{}});
  auto batch       = random_batch(*layer, 5);
  auto const out   = layer->forward(batch);
  CHECK(out.dropped == 22);
  layer->zero_gradients();
  layer->backward(batch);
  std::size_t zero = 0;
  for (auto const& p : layer->parameters) {
    if (gradient::norm_of(p.gradient) == 0) { ++zero; }
  }
  CHECK(layer->parameters.size() == 5);
  CHECK(zero == 3);  // gate.w, w_in and w_out
  CHECK(gradient::norm_of(batch.dx) > 0);
}
