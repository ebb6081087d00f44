#pragma once
// Gradient checks of whole layers in double: backward against central differences of the objective
//   J = sum(y dy) + loss scale * (sum of the losses)
// over x, every parameter and given weights, with everything discrete held: ids, kept assignments,
// counts, noise.
#include <doctest/doctest.h>

#include <limits>

#include "support/erased_layer.hpp"

namespace moe::test {

struct GradientOptions {
  bool drops          = false;  // some assignments must be dropped
  bool all_components = false;  // every derivative alone, beside random directions
  bool mask           = false;  // every third token takes no part
  bool losses_alone   = false;  // dy is zero, so that only x and the gate have gradients
  double loss_scale   = 1;
};

namespace gradient {

struct Difference {
  double expected;
  bool steady;  // no decision changes near here, and no kink lies here
};

// dJ along `direction`, of fourth order, with two step sizes.
inline Difference central_difference(GradientLayer& layer,
                                     LayerBatch const& batch,
                                     std::vector<Id> const& decisions,
                                     std::span<double> value,
                                     std::vector<double> const& direction,
                                     double scale)
{
  std::vector<double> const at(value.begin(), value.end());
  bool same           = true;
  auto const moved_by = [&](double h) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      value[i] = at[i] + h * direction[i];
    }
    auto const out = layer.forward(batch);
    same           = same && out.decisions == decisions;
    return out.objective(batch);
  };
  double const h       = 2e-4;
  double const quarter = moved_by(h / 2) - moved_by(-h / 2);
  double const half    = moved_by(h) - moved_by(-h);
  double const whole   = moved_by(2 * h) - moved_by(-2 * h);
  std::copy(at.begin(), at.end(), value.begin());
  double const coarse = (8 * half - whole) / (12 * h);
  double const fine   = (8 * quarter - half) / (6 * h);
  double const most   = std::max({scale, std::abs(coarse), std::abs(fine)});
  return {fine, same && std::abs(coarse - fine) <= 2e-7 * most};
}

inline double norm_of(std::span<double const> v)
{
  double sum = 0;
  for (double const x : v) {
    sum += x * x;
  }
  return std::sqrt(sum);
}

// Gradients that are overwritten are those that are added to zeros, whatever was there.
inline void check_overwritten(GradientLayer& layer, LayerBatch batch)
{
  std::vector<std::vector<double>> added;
  for (auto const& p : layer.parameters) {
    added.emplace_back(p.gradient.begin(), p.gradient.end());
    std::fill(p.gradient.begin(), p.gradient.end(), std::numeric_limits<double>::quiet_NaN());
  }
  layer.backward(batch, Result::overwrite);
  for (std::size_t i = 0; i < added.size(); ++i) {
    CAPTURE(layer.parameters[i].name);
    CHECK(std::ranges::equal(layer.parameters[i].gradient, added[i]));
  }
}

// Whether this seed lies away from kinks and ties; then all gradients have been compared.
inline bool compare_gradients(GradientLayer& layer, unsigned seed, GradientOptions const& options)
{
  struct Compared {
    std::string name;
    double expected, gradient, tolerance;
  };
  LayerBatch batch      = random_batch(layer, seed);
  batch.step.loss_scale = options.loss_scale;
  for (index_t t = 0; options.mask && t < layer.shape.tokens; ++t) {
    batch.mask.push_back(t % 3 == 1 ? 0 : 1);
  }
  if (options.losses_alone) { std::fill(batch.dy.begin(), batch.dy.end(), 0.0); }
  auto const out = layer.forward(batch);
  if (options.drops && out.dropped == 0) { return false; }
  layer.zero_gradients();
  layer.backward(batch);
  check_overwritten(layer, batch);

  std::vector<double> const dx = batch.dx, d_given = batch.d_given_weight;
  auto tensors = layer.parameters;
  tensors.push_back({"x", batch.x, batch.dx, 0, 1});
  if (!d_given.empty()) {
    tensors.push_back({"given weight", batch.given_weight, batch.d_given_weight, 0, 1});
  }
  std::mt19937 random(seed + 1000);
  std::normal_distribution<double> normal;
  std::vector<Compared> compared;
  for (auto& t : tensors) {
    double const scale = norm_of(t.gradient);
    if (options.losses_alone && t.name != "x" && !t.name.starts_with("gate")) {
      compared.push_back({t.name + " has no part in the losses", 0, scale, 0});
      continue;
    }
    compared.push_back({t.name + " is not zero", scale, scale, scale > 1e-6 ? 1.0 : -1.0});
    auto const along = [&](std::vector<double> const& direction, std::string const& name) {
      auto const d = central_difference(layer, batch, out.decisions, t.value, direction, scale);
      double sum   = 0;
      for (std::size_t i = 0; i < direction.size(); ++i) {
        sum += direction[i] * t.gradient[i];
      }
      compared.push_back({t.name + name, d.expected, sum, 1e-6 * scale});
      return d.steady;
    };
    std::vector<double> direction(t.value.size());
    for (int i = 0; i < 2; ++i) {
      std::generate(direction.begin(), direction.end(), [&] { return normal(random); });
      if (!along(direction, " along a direction")) { return false; }
    }
    std::size_t const components = options.all_components ? t.value.size() : 2;
    for (std::size_t i = 0; i < components; ++i) {
      std::size_t const at = options.all_components ? i : random() % t.value.size();
      std::fill(direction.begin(), direction.end(), 0.0);
      direction[at] = 1;
      if (!along(direction, " component " + std::to_string(at))) { return false; }
    }
  }
  for (auto const& c : compared) {
    CAPTURE(c.name);
    CAPTURE(c.expected);
    CAPTURE(c.gradient);
    CHECK(std::abs(c.expected - c.gradient) <= c.tolerance);
  }
  return true;
}

}  // namespace gradient

// Tries seeds until one lies away from kinks, ties and, where drops are asked for, has some.
inline void check_layer_gradient(GradientLayer& layer, GradientOptions const& options = {})
{
  for (unsigned seed = 1; seed <= 40; ++seed) {
    if (gradient::compare_gradients(layer, seed, options)) { return; }
  }
  FAIL_CHECK("no seed lies away from kinks and ties");
}

template <class LayerT>
void check_layer_gradient(std::string const& name,
                          LayerT const& layer,
                          GradientOptions const& options = {},
                          LayerShape const& s            = {})
{
  CAPTURE(name);
  auto const erased = erase(layer, s);
  check_layer_gradient(*erased, options);
}

}  // namespace moe::test
