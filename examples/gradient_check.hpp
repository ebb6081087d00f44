#pragma once
// Compares a layer's backward with central differences of sum(y u), in double, over every parameter
// and x. What holds for a part of the library holds for one of yours when this says so.
#include <moe/moe.hpp>

#include <algorithm>
#include <cstdio>
#include <vector>

// Largest difference over the largest gradient. The routing must not change within the step.
template <class LayerT>
double gradient_error(LayerT const& layer, typename LayerT::Sizes const& sizes, int tokens)
{
  moe::Host exec;
  auto params = layer.template make_params<double>(exec, sizes);
  auto grads  = layer.template make_params<double>(exec, sizes);
  moe::initialize(exec, params.view(), 7);

  moe::index_t const T = tokens, D = sizes.hidden;
  std::vector<double> x(static_cast<std::size_t>(T * D)), y(x), u(x), dx(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = std::sin(static_cast<double>(i * i + 1));
    u[i] = std::cos(static_cast<double>(3 * i));
  }
  auto const view = [&](auto& v) { return moe::View<double, 2, moe::Host>(v.data(), T, D); };

  auto const saved = layer.forward(exec, params, view(x), view(y));
  layer.backward(exec, params, saved, view(x), view(u), grads.view(), view(dx));

  auto const objective = [&] {
    layer.evaluate(exec, params, view(x), view(y));
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      sum += y[i] * u[i];
    }
    return sum;
  };
  double worst = 0, largest = 0;
  auto const compare = [&](double& value, double gradient) {
    double const at = value, step = 1e-5;
    value                = at + step;
    double const up      = objective();
    value                = at - step;
    double const numeric = (up - objective()) / (2 * step);
    value                = at;
    worst                = std::max(worst, std::abs(numeric - gradient));
    largest              = std::max(largest, std::abs(gradient));
  };
  for (moe::index_t i = 0; i < params.flat().size(); ++i) {
    compare(params.flat()(i), grads.flat()(i));
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    compare(x[i], dx[i]);
  }
  std::printf("gradients up to %.3g differ from differences by at most %.1e\n", largest, worst);
  return worst / largest;
}
