// Compile at -O1: many layers, little work in each.
// Layers whose output is known: identity experts, one expert, identical experts, evaluation.
#include <support/diagonal_expert.hpp>
#include <support/layer_gradient.hpp>

using namespace moe;
using namespace moe::test;

namespace {

// One parameter of an erased layer.
std::span<double> values_of(GradientLayer& layer, std::string const& name)
{
  for (auto const& p : layer.parameters) {
    if (p.name == name) { return p.value; }
  }
  FAIL("no parameter " << name);
  return {};
}

// y of a layer whose experts are the identity, and for every token whether it kept any choice.
template <class RouterT, class CapacityT, class DispatcherT>
void check_identity(std::string const& name,
                    RouterT const& router,
                    CapacityT const& capacity,
                    DispatcherT const& dispatcher)
{
  CAPTURE(name);
  auto const layer       = erase(Layer{router, capacity, dispatcher, Diagonal{}});
  LayerBatch const batch = random_batch(*layer, 3);
  auto const scale       = values_of(*layer, "scale");
  std::fill(scale.begin(), scale.end(), 1.0);
  auto const out = layer->forward(batch);
  auto const A   = static_cast<std::size_t>(layer->shape.tokens * RouterT::top_k);
  auto const D   = static_cast<std::size_t>(layer->shape.hidden);
  auto const slot =
      out.decisions.begin() + static_cast<std::ptrdiff_t>(A);  // after the experts' ids
  CHECK((out.dropped > 0) == CapacityT::bounded);
  for (std::size_t i = 0; i < out.y.size(); ++i) {
    CAPTURE(i);
    auto const first = slot + static_cast<std::ptrdiff_t>(i / D * RouterT::top_k);
    bool const kept  = std::any_of(first, first + RouterT::top_k, [](Id s) { return s >= 0; });
    CHECK(std::abs(out.y[i] - (kept ? batch.x[i] : 0.0)) <= 4e-16 * std::abs(batch.x[i]));
  }
}

double silu(double z)
{
  return z / (1 + std::exp(-z));
}

// y(t) = w_out silu(w_gate x) * (w_up x) + b_out..., by plain loops over the weights of expert `e`.
std::vector<double> dense_swiglu(LayerShape const& s,
                                 std::span<double const> w_in,
                                 std::span<double const> w_out,
                                 std::vector<double> const& x)
{
  auto const D = static_cast<std::size_t>(s.hidden), F = static_cast<std::size_t>(s.ffn);
  std::vector<double> y(x.size());
  for (std::size_t t = 0; t < x.size() / D; ++t) {
    for (std::size_t f = 0; f < F; ++f) {
      double gate = 0, up = 0;
      for (std::size_t d = 0; d < D; ++d) {
        gate += w_in[f * D + d] * x[t * D + d];
        up += w_in[(F + f) * D + d] * x[t * D + d];
      }
      for (std::size_t d = 0; d < D; ++d) {
        y[t * D + d] += w_out[d * F + f] * silu(gate) * up;
      }
    }
  }
  return y;
}

void check_close(std::vector<double> const& a, std::vector<double> const& b)
{
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-12));
  }
}

// Makes every expert a copy of the first.
void copy_first_expert(std::span<double> w, index_t experts)
{
  auto const n = static_cast<std::ptrdiff_t>(w.size()) / experts;
  for (index_t e = 1; e < experts; ++e) {
    std::copy(w.begin(), w.begin() + n, w.begin() + e * n);
  }
}

template <class LayerT>
void check_dense(std::string const& name, LayerT const& layer, index_t experts)
{
  CAPTURE(name);
  LayerShape const s{.experts = experts};
  auto const erased      = erase(layer, s);
  LayerBatch const batch = random_batch(*erased, 4);
  auto const w_in = values_of(*erased, "w_in"), w_out = values_of(*erased, "w_out");
  copy_first_expert(w_in, experts);
  copy_first_expert(w_out, experts);
  check_close(erased->forward(batch).y, dense_swiglu(s, w_in, w_out, batch.x));
}

// y of evaluate and of forward, for the same parameters and input, in training and out of it.
struct BothPasses {
  std::vector<double> forward, evaluate;
};
template <class LayerT>
BothPasses both_passes(LayerT const& layer, typename LayerT::Sizes sizes, index_t tokens = 13)
{
  Host const& exec = gradient_host();
  auto params      = layer.template make_params<double>(exec, sizes);
  initialize(exec, params.view(), 17);
  std::vector<double> x(static_cast<std::size_t>(tokens * sizes.hidden));
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = std::sin(1 + 0.7 * static_cast<double>(i * i));
  }
  BothPasses y{std::vector<double>(x.size(), -9), std::vector<double>(x.size(), -9)};
  View<double const, 2, Host> const in(x.data(), tokens, sizes.hidden);
  View<double, 2, Host> const trained(y.forward.data(), tokens, sizes.hidden),
      evaluated(y.evaluate.data(), tokens, sizes.hidden);
  static_cast<void>(layer.forward(exec, params, in, trained));
  layer.evaluate(exec, params, in, evaluated);
  return y;
}

}  // namespace

TEST_CASE("identity experts with weights that sum to one give back x")
{
  check_identity("softmax, serial", SoftmaxTopK<2, renormalized>{}, Dropless{}, SerialDispatcher{});
  check_identity(
      "softmax, batched", SoftmaxTopK<3, renormalized>{}, Dropless{}, BatchedDispatcher<>{});
  check_identity("sigmoid", SigmoidTopK<2, renormalized>{}, Dropless{}, BatchedDispatcher<>{});
  check_identity("softmax of the chosen", TopKSoftmax<2>{}, Dropless{}, BatchedDispatcher<>{});
  check_identity("noisy", NoisyTopK<2>{}, Dropless{}, BatchedDispatcher<>{});
  check_identity("renormalised over the kept",
                 RenormalizeKept{SoftmaxTopK<2>{}},
                 DropByWeight{FixedCapacity{2}},
                 BatchedDispatcher<>{});
  check_identity("one expert for each token",
                 RenormalizeKept{SoftmaxTopK<3>{}},
                 DropByPosition{FixedCapacity{2}},
                 SerialDispatcher{});
}

TEST_CASE("a user's expert passes the gradient check")
{
  check_layer_gradient("dropless",
                       Layer{SoftmaxTopK<2>{}, Dropless{}, SerialDispatcher{}, Diagonal{}},
                       {.all_components = true});
  check_layer_gradient(
      "drops, padded",
      Layer{TopKSoftmax<2>{}, DropByWeight{FixedCapacity{2}}, BatchedDispatcher<>{}, Diagonal{}},
      {.drops = true, .all_components = true});
  check_layer_gradient("beside a shared one of its kind",
                       Layer{SoftmaxTopK<2>{},
                             Dropless{},
                             BatchedDispatcher<>{},
                             Diagonal{},
                             SharedExpert<Diagonal, sigmoid_gated>{}},
                       {.all_components = true});
}

TEST_CASE("one expert, and several identical ones, are the dense FFN")
{
  check_dense(
      "one, serial", Layer{SoftmaxTopK<1>{}, Dropless{}, SerialDispatcher{}, Ffn<SwiGlu>{}}, 1);
  check_dense(
      "one, batched", Layer{SoftmaxTopK<1>{}, Dropless{}, BatchedDispatcher<>{}, Ffn<SwiGlu>{}}, 1);
  check_dense("one, padded",
              Layer{SoftmaxTopK<1>{},
                    DropByPosition{CeilCapacity{.factor = 1}},
                    BatchedDispatcher<>{},
                    Ffn<SwiGlu>{}},
              1);
  check_dense(
      "identical",
      Layer{SoftmaxTopK<2, renormalized>{}, Dropless{}, BatchedDispatcher<>{}, Ffn<SwiGlu>{}},
      6);
  check_dense("identical, all chosen",
              Layer{SoftmaxTopK<4>{}, Dropless{}, SerialDispatcher{}, Ffn<SwiGlu>{}},
              4);
}

TEST_CASE("evaluate is forward, where there is no noise")
{
  auto const same = [](std::string const& name, auto const& layer) {
    CAPTURE(name);
    typename std::decay_t<decltype(layer)>::Sizes sizes{
        .hidden = 7, .experts = 6, .expert = {.ffn = 5}};
    if constexpr (requires { sizes.shared.expert.ffn; }) { sizes.shared.expert.ffn = 3; }
    auto const y = both_passes(layer, sizes);
    CHECK(gradient::norm_of(y.forward) > 0.1);
    CHECK(y.evaluate == y.forward);  // the same bits
  };
  SoftmaxTopK<2, renormalized> const softmax{};
  same("dropless, serial", Layer{softmax, Dropless{}, SerialDispatcher{}, Ffn<SwiGlu>{}});
  same("shared expert and loss",
       Layer{softmax,
             Dropless{},
             BatchedDispatcher<>{},
             Ffn<Relu, with_bias>{},
             SharedExpert<Ffn<SwiGlu>, sigmoid_gated>{},
             SwitchLoss{}});
  same("drops, padded",
       Layer{RenormalizeKept{SoftmaxTopK<3>{}},
             DropByTokenPriority{FixedCapacity{2}},
             BatchedDispatcher<>{},
             Ffn<SwiGlu>{}});
  same("expert choice",
       Layer{ExpertChoice{.factor = 2}, Dropless{}, BatchedDispatcher<>{}, Ffn<SwiGlu>{}});
  same("cosine gate",
       Layer{softmax, Dropless{}, BatchedDispatcher<>{}, Ffn<SwiGlu>{}, CosineGate{}});
}

TEST_CASE("noisy top-k draws noise in training and none in evaluation")
{
  Ffn<SwiGlu> const expert{};
  Layer const noisy{NoisyTopK<2>{}, Dropless{}, SerialDispatcher{}, expert};
  Layer const clean{TopKSoftmax<2>{}, Dropless{}, SerialDispatcher{}, expert};
  Host const& exec = gradient_host();
  auto noisy_params =
      noisy.make_params<double>(exec, {.hidden = 7, .experts = 6, .expert = {.ffn = 5}});
  auto clean_params =
      clean.make_params<double>(exec, {.hidden = 7, .experts = 6, .expert = {.ffn = 5}});
  initialize(exec, noisy_params.view(), 5);
  auto const from = noisy_params.const_view();
  auto const to   = clean_params.view();
  REQUIRE(from.gate.w.extent(0) == 12);  // the clean logits, then the noise's width
  std::copy_n(from.gate.w.data_handle(), to.gate.w.size(), to.gate.w.data_handle());
  std::copy_n(
      from.experts.w_in.data_handle(), to.experts.w_in.size(), to.experts.w_in.data_handle());
  std::copy_n(
      from.experts.w_out.data_handle(), to.experts.w_out.size(), to.experts.w_out.data_handle());

  std::vector<double> x(11 * 7), evaluated(11 * 7), trained(11 * 7), expected(11 * 7);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = std::cos(0.3 * static_cast<double>(i * i));
  }
  View<double const, 2, Host> const in(x.data(), 11, 7);
  noisy.evaluate(exec, noisy_params, in, View<double, 2, Host>(evaluated.data(), 11, 7));
  static_cast<void>(
      noisy.forward(exec, noisy_params, in, View<double, 2, Host>(trained.data(), 11, 7)));
  static_cast<void>(
      clean.forward(exec, clean_params, in, View<double, 2, Host>(expected.data(), 11, 7)));
  CHECK(evaluated == expected);
  CHECK(trained != expected);
}
