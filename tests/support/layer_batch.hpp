#pragma once
// A batch for layers of a linear gate and feed-forward experts, as plain memory, and one forward
// and backward pass over it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <moe/moe.hpp>

#include "support/guarded.hpp"
#include "support/numbers.hpp"

namespace moe::test {

using GateFfnSizes = LayerSizes<LinearGate::Sizes, Ffn<SwiGlu>::Sizes, NoSharedExpert::Sizes>;

// How many elements a layer's parameters take, gaps between them included.
template <class LayerT, class T>
index_t flat_size(typename LayerT::Sizes const& sizes)
{
  Carver<T, Host> count;
  LayerT::template Params<T, Host>::carve(count, sizes);
  return count.used();
}
template <class LayerT, class T>
auto params_at(T* base, typename LayerT::Sizes const& sizes)
{
  Carver<T, Host> carver(base);
  return LayerT::template Params<T, Host>::carve(carver, sizes);
}

// Numbers of x and of the gate are multiples of 1/8 or 1/4, so that logits of small D are exact in
// every type and whoever computes them sees the same ties.
template <class T>
struct Batch {
  GateFfnSizes sizes{};
  index_t tokens    = 0;
  index_t sequences = 1;
  std::vector<T> x, dy, params;  // (T, D), (T, D), flat
  std::vector<std::uint8_t> mask;
  std::vector<StepState> step;
  index_t first_token = 0;

  template <class LayerT>
  static Batch make(LayerT const&, GateFfnSizes const& of, index_t token_count, unsigned seed)
  {
    Batch b;
    b.sizes  = of;
    b.tokens = token_count;
    std::mt19937 rng(seed);
    auto const grid = [&](index_t count, int steps, double unit) {
      std::vector<T> v(static_cast<std::size_t>(count));
      for (T& e : v) {
        auto const i = static_cast<int>(rng() % static_cast<unsigned>(2 * steps + 1)) - steps;
        e            = to_element<T>(i * unit);
      }
      return v;
    };
    index_t const n = token_count * of.hidden;
    b.x             = grid(n, 8, 0.125);
    b.dy            = grid(n, 16, 0.0625);
    b.params        = grid(flat_size<LayerT, T>(of), 4, 0.25);
    return b;
  }

  template <class LayerT>
  [[nodiscard]] auto param_views(LayerT const&) const
  {
    return params_at<LayerT, T const>(params.data(), sizes);
  }
  [[nodiscard]] View<T const, 2, Host> x_view() const
  {
    return View<T const, 2, Host>(x.data(), tokens, sizes.hidden);
  }
  [[nodiscard]] View<T const, 2, Host> dy_view() const
  {
    return View<T const, 2, Host>(dy.data(), tokens, sizes.hidden);
  }
  [[nodiscard]] LayerInput<T, Host> input() const
  {
    LayerInput<T, Host> in{.x = x_view(), .sequences = sequences};
    if (!mask.empty()) { in.mask = View<std::uint8_t const, 1, Host>(mask.data(), tokens); }
    if (!step.empty()) { in.step = View<StepState const, 1, Host>(step.data(), 1); }
    in.first_token = first_token;
    return in;
  }
  [[nodiscard]] Batch rows(std::vector<index_t> const& which) const
  {
    Batch b  = *this;
    b.tokens = static_cast<index_t>(which.size());
    b.x      = rows_of(x, which);
    b.dy     = rows_of(dy, which);
    return b;
  }
  [[nodiscard]] std::vector<T> rows_of(std::vector<T> const& from,
                                       std::vector<index_t> const& which) const
  {
    std::vector<T> to;
    for (index_t const t : which) {
      auto const at = from.begin() + t * sizes.hidden;
      to.insert(to.end(), at, at + sizes.hidden);
    }
    return to;
  }
};

// Gradients of one layer between canaries; the elements between two views are canaries too.
template <class LayerT, class S>
struct GuardedGrads {
  static constexpr double gap = -77;
  GateFfnSizes sizes;
  Guarded<S> memory;

  explicit GuardedGrads(GateFfnSizes const& s) : sizes{s}, memory(flat_size<LayerT, S>(s), S(gap))
  {
    fill_values(views(), 0);
  }
  auto views() { return params_at<LayerT, S>(memory.data(), sizes); }
  bool whole()
  {
    std::vector<bool> owned(static_cast<std::size_t>(memory.size()), false);
    views().for_each([&](char const*, auto const& view, auto const&) {
      auto const from = owned.begin() + (view.data_handle() - memory.data());
      std::fill(from, from + view.size(), true);
    });
    for (index_t i = 0; i < memory.size(); ++i) {
      if (!owned[static_cast<std::size_t>(i)] && memory.data()[i] != S(gap)) { return false; }
    }
    return memory.whole();
  }
};

template <class T>
bool same_bits(std::vector<T> const& a, std::vector<T> const& b)
{
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// All that one pass writes. Gradients start as `0`.
template <class T>
struct LayerPass {
  using S = accumulator_t<T>;
  std::vector<T> y, dx;
  std::vector<S> grads, losses;
  LoadStatistics loads;

  friend bool operator==(LayerPass const& a, LayerPass const& b)
  {
    return same_bits(a.y, b.y) && same_bits(a.dx, b.dx) && same_bits(a.grads, b.grads) &&
           same_bits(a.losses, b.losses) &&
           a.loads.tokens_per_expert == b.loads.tokens_per_expert &&
           a.loads.kept_per_expert == b.loads.kept_per_expert &&
           a.loads.dropped == b.loads.dropped && a.loads.assigned == b.loads.assigned &&
           a.loads.non_finite_tokens == b.loads.non_finite_tokens &&
           a.loads.invalid_ids == b.loads.invalid_ids;
  }
};

// With a state of the caller's.
template <class T, class LayerT>
LayerPass<T> run_pass(LayerT const& layer,
                      Host const& exec,
                      Batch<T> const& b,
                      typename LayerT::template Saved<T, Host>& saved)
{
  using S             = accumulator_t<T>;
  auto const nan      = to_element<T>(std::numeric_limits<double>::quiet_NaN());
  auto const elements = static_cast<std::size_t>(b.tokens * b.sizes.hidden);
  LayerPass<T> out;
  out.y.assign(elements, nan);
  out.dx.assign(elements, nan);
  out.grads.assign(static_cast<std::size_t>(flat_size<LayerT, S>(b.sizes)), S{0});
  View<T, 2, Host> const y(out.y.data(), b.tokens, b.sizes.hidden);
  View<T, 2, Host> const dx(out.dx.data(), b.tokens, b.sizes.hidden);
  layer.forward(exec, b.param_views(layer), b.input(), y, saved);
  layer.backward(exec,
                 b.param_views(layer),
                 saved,
                 b.input(),
                 b.dy_view(),
                 params_at<LayerT, S>(out.grads.data(), b.sizes),
                 dx);
  auto const losses = saved.losses(exec);
  out.losses.assign(losses.begin(), losses.end());
  out.loads = saved.statistics(exec);
  return out;
}
template <class T, class LayerT>
LayerPass<T> run_pass(LayerT const& layer, Host const& exec, Batch<T> const& b)
{
  auto saved = layer.template make_saved<T>(exec, b.sizes, b.tokens, b.sequences);
  return run_pass<T>(layer, exec, b, saved);
}

}  // namespace moe::test
