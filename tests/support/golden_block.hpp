#pragma once
// Runs a layer on the inputs and weights of a recorded block and compares everything it gives.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "support/safetensors.hpp"
#include "support/spaces.hpp"

namespace moe::test {

// One recorded tensor and its gradient, in the library's layout.
struct RecordedTensor {
  std::string name;
  std::vector<double> value, gradient;
};

// A block as its system computed it. Parameters are in the order in which the layer visits its own:
// gate, w_in, w_out, b_in, b_out, the shared expert's.
struct RecordedBlock {
  Safetensors file;
  std::vector<RecordedTensor> parameters;
  std::vector<double> x, dy, y, dx;

  explicit RecordedBlock(std::string const& name)
      : file{golden(name)}, x{values("x")}, dy{values("dy")}, y{values("y")}, dx{values("grad.x")}
  {
  }
  [[nodiscard]] std::vector<double> values(std::string const& name) const
  {
    return file.values<double>(name);
  }

  using Relayout = std::function<std::vector<double>(std::vector<double> const&)>;
  // As recorded, or after a change of layout.
  void add(std::string const& name, Relayout const& relayout = std::identity{})
  {
    parameters.push_back({name, relayout(values(name)), relayout(values("grad." + name))});
  }
  // Two tensors that the library keeps as one: gate rows, then up rows.
  void add_joined(std::string const& first, std::string const& second)
  {
    auto const joined = [&](std::string const& prefix) {
      auto a       = values(prefix + first);
      auto const b = values(prefix + second);
      a.insert(a.end(), b.begin(), b.end());
      return a;
    };
    parameters.push_back({first + " + " + second, joined(""), joined("grad.")});
  }
};

// (E, rows, columns) -> (E, columns, rows)
inline RecordedBlock::Relayout transposed(std::size_t rows, std::size_t columns)
{
  return [=](std::vector<double> const& v) {
    std::vector<double> result(v.size());
    std::size_t const size = rows * columns;
    for (std::size_t i = 0; i < v.size(); ++i) {
      std::size_t const e = i / size, r = i % size / columns, c = i % columns;
      result[e * size + c * rows + r] = v[i];
    }
    return result;
  };
}

// (..., 2F) with gate and up alternating -> (..., 2F) gate first
inline RecordedBlock::Relayout gate_first(std::size_t ffn)
{
  return [=](std::vector<double> const& v) {
    std::vector<double> result(v.size());
    for (std::size_t i = 0; i < v.size(); ++i) {
      std::size_t const f                 = i % (2 * ffn);
      result[i - f + f % 2 * ffn + f / 2] = v[i];
    }
    return result;
  };
}

// What a layer made of the same inputs.
struct ComputedBlock {
  std::vector<double> y, dx, losses;
  std::vector<std::vector<double>> gradients;
  std::vector<double> tokens_per_expert;
  double dropped = 0;
};

template <class T, class ExecT, class LayerT>
ComputedBlock compute_block(ExecT const& exec,
                            LayerT const& layer,
                            typename LayerT::Sizes const& sizes,
                            RecordedBlock const& block)
{
  auto params = layer.template make_params<T>(exec, sizes);
  auto grads  = layer.template make_params<T>(exec, sizes);

  std::size_t n = 0;
  params.view().for_each([&](char const*, auto const& view, Init const&) {
    REQUIRE(n < block.parameters.size());
    auto const& value = block.parameters[n++].value;
    REQUIRE(static_cast<std::size_t>(view.size()) == value.size());
    std::vector<T> const elements(value.begin(), value.end());
    exec.copy_from_host(view.data_handle(), elements.data(), elements.size() * sizeof(T));
  });
  REQUIRE(n == block.parameters.size());

  index_t const D = sizes.hidden, tokens = static_cast<index_t>(block.x.size()) / D;
  auto const x  = put<T>(exec, block.x, tokens, D);
  auto const dy = put<T>(exec, block.dy, tokens, D);
  Tensor<T, 2, ExecT> y(exec, tokens, D), dx(exec, tokens, D);

  auto const saved = layer.forward(exec, params, x.const_view(), y.view());
  layer.backward(
      exec, params, saved, x.const_view(), dy.const_view(), grads.view(), dx.view());

  ComputedBlock out;
  out.y             = get_numbers(exec, y.const_view());
  out.dx            = get_numbers(exec, dx.const_view());
  auto const losses = saved.losses(exec);
  out.losses        = {losses.begin(), losses.end()};
  grads.view().for_each([&](char const*, auto const& view, Init const&) {
    out.gradients.push_back(get_numbers(exec, view));
  });
  auto const statistics = saved.statistics(exec);
  out.tokens_per_expert = {statistics.tokens_per_expert.begin(), statistics.tokens_per_expert.end()};
  out.dropped           = static_cast<double>(statistics.dropped.size());
  return out;
}

// Within 2e-5 of the largest value: see tests/data/golden/README.md.
inline void check_recorded(std::string const& name,
                           std::vector<double> const& computed,
                           std::vector<double> const& recorded)
{
  CAPTURE(name);
  REQUIRE(computed.size() == recorded.size());
  double largest = 0, difference = 0;
  bool finite = true;
  for (std::size_t i = 0; i < recorded.size(); ++i) {
    largest    = std::max(largest, std::abs(recorded[i]));
    difference = std::max(difference, std::abs(computed[i] - recorded[i]));
    finite     = finite && std::isfinite(computed[i]);
  }
  CHECK(finite);
  CHECK(largest > 0);
  CHECK(difference <= 2e-5 * largest);
}

// The same block by every space, element type, dispatcher and product. layer_with(dispatcher)
// composes it; set_sizes(sizes) adds what is particular to it, and `also` looks at that.
template <class LayerWith, class SizesOf>
void check_block(RecordedBlock const& block,
                 LayerWith const& layer_with,
                 SizesOf const& set_sizes,
                 std::function<void(ComputedBlock const&)> const& also = {})
{
  auto const check = [&]<class T>(T, auto const& dispatcher, char const* which) {
    auto const layer = layer_with(dispatcher);
    typename std::decay_t<decltype(layer)>::Sizes sizes{
        .hidden = 16, .experts = 8, .expert = {.ffn = 12}};
    set_sizes(sizes);
    for (auto const products : tested_products) {
      CAPTURE(which);
      CAPTURE((products == Products::own));
      auto const out = compute_block<T>(test_space(products), layer, sizes, block);
      check_recorded("y", out.y, block.y);
      check_recorded("dx", out.dx, block.dx);
      for (std::size_t i = 0; i < block.parameters.size(); ++i) {
        check_recorded(block.parameters[i].name, out.gradients[i], block.parameters[i].gradient);
      }
      if (also) { also(out); }
    }
  };
  check(float{}, SerialDispatcher{}, "float, serial");
  check(float{}, BatchedDispatcher<>{}, "float, batched");
  if constexpr (space_has_double) {
    check(double{}, SerialDispatcher{}, "double, serial");
    check(double{}, BatchedDispatcher<>{}, "double, batched");
  }
}

}  // namespace moe::test
