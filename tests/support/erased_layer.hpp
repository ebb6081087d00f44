#pragma once
// A layer in double behind an abstract class, so that what is done with layers is compiled once and
// only forward and backward are instantiated per composition.
#include <moe/moe.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace moe::test {

struct LayerShape {
  index_t tokens = 11, sequences = 1, hidden = 7, ffn = 5, experts = 6;
};

// What one forward and backward pass works on and gives.
struct LayerBatch {
  std::vector<double> x, dy, dx;     // (T, D)
  std::vector<std::uint8_t> mask;    // (T) or empty
  std::vector<Id> given_expert;      // (T, K) or empty
  std::vector<double> given_weight;  // (T, K) or empty
  std::vector<double> d_given_weight;
  StepState step{.step = 3, .seed = 12, .temperature = 1.5, .loss_scale = 1};
};

struct LayerOutcome {
  std::vector<double> y, losses;
  std::vector<Id> decisions;  // ids, slots, counts: what must not change under a small step
  index_t dropped = 0;

  [[nodiscard]] double objective(LayerBatch const& batch) const
  {
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      sum += y[i] * batch.dy[i];
    }
    for (double const loss : losses) {
      sum += batch.step.loss_scale * loss;
    }
    return sum;
  }
};

// A parameter, or an input that has a gradient.
struct NamedGradient {
  std::string name;
  std::span<double> value;
  std::span<double> gradient;
  double mean = 0, deviation = 1;  // of the values it is checked at
};

class GradientLayer {
 public:
  explicit GradientLayer(LayerShape const& s) : shape{s} {}
  GradientLayer(GradientLayer const&)            = delete;
  GradientLayer& operator=(GradientLayer const&) = delete;
  virtual ~GradientLayer()                       = default;

  virtual LayerOutcome forward(LayerBatch const& batch) = 0;
  // Of the last forward.
  virtual void backward(LayerBatch& batch, Result result = Result::add) = 0;
  virtual void zero_gradients()                                         = 0;

  LayerShape shape;
  std::vector<NamedGradient> parameters;
  int given_top_k = 0;  // K of GivenRouting
};

namespace gradient {

inline void add_decisions(Routing<double, Host> const& routing,
                          RoutingPlan<Host> const& plan,
                          LayerOutcome& out)
{
  for (auto const view : {routing.expert.const_view(),
                          routing.token.const_view(),
                          plan.slot_of.const_view(),
                          plan.tokens_per_expert.const_view(),
                          plan.kept_per_expert.const_view(),
                          plan.dropped_count.const_view()}) {
    out.decisions.insert(
        out.decisions.end(), view.data_handle(), view.data_handle() + view.extent(0));
  }
  out.dropped = plan.dropped_count.const_view()(0);
}

}  // namespace gradient

template <class LayerT>
class GradientLayerOf;

template <class RouterT, class CapacityT, class DispatcherT, class ExpertT, class... ExtraTs>
class GradientLayerOf<Layer<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...>> final
    : public GradientLayer {
  using LayerT = Layer<RouterT, CapacityT, DispatcherT, ExpertT, ExtraTs...>;
  using Owned  = decltype(std::declval<LayerT const&>().template make_params<double>(
      std::declval<Host const&>(), std::declval<typename LayerT::Sizes const&>()));

 public:
  GradientLayerOf(Host const& exec, LayerT const& layer, LayerShape const& s)
      : GradientLayer{s},
        exec_{exec},
        layer_{layer},
        params_{layer.template make_params<double>(exec, sizes(s))},
        grads_{layer.template make_params<double>(exec, sizes(s))},
        saved_{layer.template make_saved<double>(exec, sizes(s), s.tokens, s.sequences)},
        y_(exec, s.tokens, s.hidden)
  {
    params_.view().for_each([&](char const* name, auto const& view, Init init) {
      parameters.push_back({name, span_of(view), {}, init.mean, name[0] == 'g' ? 1.0 : 0.6});
    });
    std::size_t i = 0;
    grads_.view().for_each(
        [&](char const*, auto const& view, Init) { parameters[i++].gradient = span_of(view); });
    if constexpr (moe::detail::IsGiven<RouterT>) { given_top_k = RouterT::top_k; }
  }

  LayerOutcome forward(LayerBatch const& batch) override
  {
    layer_.forward(exec_, params_, input(batch), y_.view(), saved_);
    auto const losses = saved_.losses(exec_);
    LayerOutcome out{values(y_), {losses.begin(), losses.end()}, {}, 0};
    gradient::add_decisions(saved_.routing, saved_.plan, out);
    for (auto const& load : saved_.loads) {
      double const* const at = load.assigned.const_view().data_handle();
      for (index_t i = 0; i < load.assigned.const_view().size(); ++i) {
        out.decisions.push_back(static_cast<Id>(at[i]));
      }
    }
    return out;
  }
  void backward(LayerBatch& batch, Result result) override
  {
    batch.dx.assign(batch.x.size(), -99);
    batch.d_given_weight.assign(batch.given_weight.size(), -99);
    layer_.backward(
        exec_,
        params_,
        saved_,
        input(batch),
        matrix(batch.dy, shape.tokens),
        overwrite(grads_.view(), result == Result::overwrite),
        View<double, 2, Host>(batch.dx.data(), shape.tokens, shape.hidden),
        View<double, 2, Host>(
            batch.d_given_weight.data(), given_top_k > 0 ? shape.tokens : 0, given_top_k));
  }
  void zero_gradients() override { exec_.zero(grads_.flat().data_handle(), bytes(grads_.flat())); }

 private:
  static typename LayerT::Sizes sizes(LayerShape const& s)
  {
    typename LayerT::Sizes sizes{.hidden = s.hidden, .experts = s.experts};
    if constexpr (requires { sizes.expert.ffn; }) { sizes.expert.ffn = s.ffn; }
    if constexpr (requires { sizes.shared.expert.ffn; }) { sizes.shared.expert.ffn = s.ffn + 1; }
    if constexpr (requires { sizes.gate.rank; }) { sizes.gate.rank = 3; }
    if constexpr (requires { sizes.gate.projection; }) { sizes.gate.projection = 4; }
    return sizes;
  }
  static std::span<double> span_of(auto const& view)
  {
    return {view.data_handle(), static_cast<std::size_t>(view.size())};
  }
  static std::size_t bytes(View<double, 1, Host> v)
  {
    return static_cast<std::size_t>(v.size()) * sizeof(double);
  }
  static std::vector<double> values(Tensor<double, 2, Host> const& t)
  {
    auto const v = t.const_view();
    return {v.data_handle(), v.data_handle() + v.size()};
  }
  template <class T>
  static View<T const, 2, Host> matrix(std::vector<T> const& v, index_t rows)
  {
    if (v.empty()) { return {}; }
    return View<T const, 2, Host>(v.data(), rows, static_cast<index_t>(v.size()) / rows);
  }
  LayerInput<double, Host> input(LayerBatch const& batch) const
  {
    LayerInput<double, Host> in{.x = matrix(batch.x, shape.tokens), .sequences = shape.sequences};
    in.step = View<StepState const, 1, Host>(&batch.step, 1);
    if (!batch.mask.empty()) {
      in.mask = View<std::uint8_t const, 1, Host>(batch.mask.data(), shape.tokens);
    }
    in.given_expert = matrix(batch.given_expert, shape.tokens);
    in.given_weight = matrix(batch.given_weight, shape.tokens);
    return in;
  }

  Host exec_;
  LayerT layer_;
  Owned params_, grads_;
  typename LayerT::template Saved<double, Host> saved_;
  Tensor<double, 2, Host> y_;
};

// One thread, since the products are tiny; the library's own products.
inline Host const& gradient_host()
{
  static Host const exec{{.threads = 1, .products = Products::own}};
  return exec;
}

template <class LayerT>
[[nodiscard]] std::unique_ptr<GradientLayer> erase(LayerT const& layer, LayerShape const& s = {})
{
  return std::make_unique<GradientLayerOf<LayerT>>(gradient_host(), layer, s);
}

// Values for every parameter and a batch, from a seed.
inline LayerBatch random_batch(GradientLayer& layer, unsigned seed)
{
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (auto& p : layer.parameters) {
    std::generate(
        p.value.begin(), p.value.end(), [&] { return p.mean + p.deviation * normal(random); });
  }
  LayerBatch batch;
  auto const n = static_cast<std::size_t>(layer.shape.tokens * layer.shape.hidden);
  batch.x.resize(n);
  batch.dy.resize(n);
  std::generate(batch.x.begin(), batch.x.end(), [&] { return normal(random); });
  std::generate(batch.dy.begin(), batch.dy.end(), [&] { return normal(random); });
  // Some assignments go nowhere, and some experts are named twice by a token.
  for (index_t i = 0; i < layer.shape.tokens * layer.given_top_k; ++i) {
    batch.given_expert.push_back(
        static_cast<Id>(random() % static_cast<unsigned>(layer.shape.experts + 1)) - 1);
    batch.given_weight.push_back(0.5 + 0.3 * normal(random));
  }
  return batch;
}

}  // namespace moe::test
