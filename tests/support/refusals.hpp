#pragma once
// For the tests of what a layer refuses: a table of bad inputs, and a batch that is well.
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <moe/moe.hpp>

#include "support/layer_batch.hpp"

namespace moe::test::refusal {

using Router   = moe::SoftmaxTopK<2, moe::renormalized>;
using Capacity = moe::DropByPosition<moe::CeilCapacity>;
constexpr moe::Ffn<moe::SwiGlu> expert{};
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double inf          = std::numeric_limits<double>::infinity();
constexpr index_t T = 12, D = 8, E = 4;
constexpr GateFfnSizes sizes{.hidden = D, .experts = E, .expert = {.ffn = 6}};

inline auto layer_of(Router router = {}, moe::CeilCapacity rule = {}, double coeff = 0.1)
{
  return moe::Layer{router,
                    Capacity{rule},
                    moe::BatchedDispatcher{},
                    expert,
                    moe::MiniMindSequenceLoss{.coeff = coeff}};
}
using Layer = decltype(layer_of());
using Saved = Layer::Saved<float, Host>;
using Input = moe::LayerInput<float, Host>;

struct Refused {
  std::string what, field, value, limit;
  bool typed = false;
};

struct Case {
  std::string name;
  std::function<void()> action;
  std::vector<std::string> parts;  // of what(): the field, the value, the limit
  Refused (*run)(std::function<void()> const&);
};

template <class ErrorT>
Refused refused(std::function<void()> const& action)
{
  try {
    action();
  } catch (ErrorT const& e) {
    return {e.what(), e.field, e.value, e.limit, true};
  } catch (std::exception const& e) {
    return {std::string("another error: ") + e.what(), "", "", "", false};
  }
  return {"no error", "", "", "", false};
}

struct Table {
  std::vector<Case> cases;

  template <class ErrorT>
  void add(std::string name, std::vector<std::string> parts, std::function<void()> action)
  {
    cases.push_back({std::move(name), std::move(action), std::move(parts), &refused<ErrorT>});
  }
};

// A batch that is well, forward done.
struct World {
  Host exec{{.threads = 2, .products = moe::Products::own}};
  Layer layer         = layer_of();
  Batch<float> b      = Batch<float>::make(layer, sizes, T, 1);
  moe::StepState step = {};
  std::vector<float> y, dx, grads;
  Saved saved = layer.make_saved<float>(exec, sizes, T, 3);

  World()
  {
    b.sequences = 3;
    b.mask.assign(T, 1);
    y.assign(T * D, 0);
    layer.forward(exec, params(), in(), y_view(), saved);
    y.assign(T * D, -7);
    dx.assign(T * D, -8);
    grads.assign(b.params.size(), -9);
  }
  [[nodiscard]] Input in() const { return b.input(); }
  [[nodiscard]] Layer::Params<float const, Host> params() const { return b.param_views(layer); }
  View<float, 2, Host> y_view() { return View<float, 2, Host>(y.data(), T, D); }
  View<float, 2, Host> dx_view() { return View<float, 2, Host>(dx.data(), T, D); }
  Layer::Params<float, Host> grad_views()
  {
    return moe::test::params_at<Layer, float>(grads.data(), sizes);
  }
  Layer::Params<float, Host> writable_params()
  {
    return moe::test::params_at<Layer, float>(b.params.data(), sizes);
  }

  void forward(Input const& input, View<float, 2, Host> out)
  {
    layer.forward(exec, params(), input, out, saved);
  }
  void forward_with(Layer const& other) { other.forward(exec, params(), in(), y_view(), saved); }
  void forward_into(Saved& state) { layer.forward(exec, params(), in(), y_view(), state); }
  void backward(View<float const, 2, Host> dy,
                Layer::Params<float, Host> const& g,
                View<float, 2, Host> out)
  {
    layer.backward(exec, params(), saved, in(), dy, g, out);
  }
  void backward_overwriting(Layer::Params<float, Host> const& g)
  {
    layer.backward(exec, params(), saved, in(), b.dy_view(), overwrite(g), dx_view());
  }

  // What nobody may have touched.
  [[nodiscard]] std::vector<std::vector<float>> memory() const
  {
    auto const weight = saved.routing.weight.const_view().data_handle();
    auto const pre    = saved.experts.pre.const_view();
    return {y,
            dx,
            grads,
            b.params,
            b.x,
            b.dy,
            std::vector<float>(weight, weight + 2 * T),
            std::vector<float>(pre.data_handle(), pre.data_handle() + pre.extent(1))};
  }
};

inline View<float, 2, Host> at(float const* data, index_t rows, index_t columns)
{
  return {const_cast<float*>(data), {{rows, columns}}};
}

inline auto const given_layer =
    moe::Layer{moe::GivenRouting<2>{}, moe::Dropless{}, moe::BatchedDispatcher{}, expert};
using GivenLayer = std::decay_t<decltype(given_layer)>;
constexpr GivenLayer::Sizes given_sizes{.hidden = D, .experts = E, .expert = {.ffn = 6}};

// Routing that the caller gives.
struct GivenWorld {
  std::vector<Id> id          = std::vector<Id>(T * 2, 1);
  std::vector<float> weight   = std::vector<float>(T * 2, 0.5f);
  std::vector<float> d_weight = std::vector<float>(T * 2, -6.f);

  [[nodiscard]] Input in(World const& w) const
  {
    return {.x            = w.b.x_view(),
            .given_expert = View<Id const, 2, Host>(id.data(), T, 2),
            .given_weight = View<float const, 2, Host>(weight.data(), T, 2)};
  }
  static auto params(World const& w)
  {
    return moe::test::params_at<GivenLayer, float const>(w.b.params.data(), given_sizes);
  }
};

}  // namespace moe::test::refusal
