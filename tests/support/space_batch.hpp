#pragma once
// A batch of layer_batch.hpp in the memory of any space, between canaries that are NaN in every
// element type: what a kernel reads beside its input shows in what it writes.
#include <cstring>
#include <vector>

#include "support/layer_batch.hpp"
#include "support/space.hpp"

namespace moe::test {

template <class T, class ExecT>
class GuardedIn {
 public:
  GuardedIn(ExecT const& exec, std::vector<T> const& values)
      : exec_{exec},
        n_{static_cast<index_t>(values.size())},
        memory_(exec, 2 * guard + n_ * static_cast<index_t>(sizeof(T)))
  {
    std::vector<unsigned char> bytes(memory_.bytes(), canary);
    if (n_ > 0) { std::memcpy(bytes.data() + guard, values.data(), values.size() * sizeof(T)); }
    exec_.copy_from_host(memory_.view().data_handle(), bytes.data(), bytes.size());
  }
  GuardedIn(ExecT const& exec, index_t n, T value)
      : GuardedIn(exec, std::vector<T>(static_cast<std::size_t>(n), value))
  {
  }
  [[nodiscard]] T* data() const
  {
    return reinterpret_cast<T*>(const_cast<unsigned char*>(memory_.const_view().data_handle()) +
                                guard);
  }
  [[nodiscard]] View<T, 2, ExecT> view(index_t columns) const
  {
    return View<T, 2, ExecT>(data(), columns == 0 ? 0 : n_ / columns, columns);
  }
  [[nodiscard]] std::vector<T> values() const
  {
    return get(exec_, View<T const, 1, ExecT>(data(), n_));
  }
  // Whether nobody wrote beside it.
  [[nodiscard]] bool whole() const
  {
    auto const bytes = get(exec_, memory_.const_view());
    for (std::size_t i = 0; i < std::size_t{guard}; ++i) {
      if (bytes[i] != canary || bytes[bytes.size() - 1 - i] != canary) { return false; }
    }
    return true;
  }

 private:
  static constexpr index_t guard        = 1024;  // so that alignment stays
  static constexpr unsigned char canary = 0xff;
  ExecT exec_;
  index_t n_;
  Tensor<unsigned char, 1, ExecT> memory_;
};

template <class LayerT, class T, class ExecT>
auto params_in(T* base, typename LayerT::Sizes const& sizes)
{
  Carver<T, ExecT> carver(base);
  return LayerT::template Params<T, ExecT>::carve(carver, sizes);
}

template <class T, class ExecT, class LayerT>
struct BatchIn {
  BatchIn(ExecT const& exec, LayerT const&, Batch<T> const& b)
      : host{b},
        x(exec, b.x),
        dy(exec, b.dy),
        params(exec, b.params),
        mask(exec, b.mask),
        step(exec, b.step)
  {
  }
  [[nodiscard]] LayerInput<T, ExecT> input() const
  {
    LayerInput<T, ExecT> in{.x = x.view(host.sizes.hidden), .sequences = host.sequences};
    if (host.tokens == 0) { in.x = View<T const, 2, ExecT>(x.data(), 0, host.sizes.hidden); }
    if (!host.mask.empty()) {
      in.mask = View<std::uint8_t const, 1, ExecT>(mask.data(), host.tokens);
    }
    if (!host.step.empty()) { in.step = View<StepState const, 1, ExecT>(step.data(), 1); }
    in.first_token = host.first_token;
    return in;
  }
  [[nodiscard]] View<T const, 2, ExecT> dy_view() const { return dy.view(host.sizes.hidden); }
  [[nodiscard]] auto param_views() const
  {
    return params_in<LayerT, T const, ExecT>(params.data(), host.sizes);
  }
  // Nothing of it was written.
  [[nodiscard]] bool unchanged() const
  {
    return same_bits(x.values(), host.x) && same_bits(dy.values(), host.dy) &&
           same_bits(params.values(), host.params) && mask.values() == host.mask && x.whole() &&
           dy.whole() && params.whole() && mask.whole() && step.whole();
  }

  Batch<T> host;
  GuardedIn<T, ExecT> x, dy, params;
  GuardedIn<std::uint8_t, ExecT> mask;
  GuardedIn<StepState, ExecT> step;
};

// Gradients of one layer, zeros between canaries; the elements between two views are canaries too.
template <class LayerT, class S, class ExecT>
class GradsIn {
 public:
  GradsIn(ExecT const& exec, GateFfnSizes const& sizes) : sizes_{sizes}, memory_(exec, start(sizes))
  {
  }
  [[nodiscard]] auto views() const { return params_in<LayerT, S, ExecT>(memory_.data(), sizes_); }
  [[nodiscard]] std::vector<S> values() const { return memory_.values(); }  // gaps included
  // Views of such values.
  [[nodiscard]] auto views_of(std::vector<S>& values) const
  {
    return params_at<LayerT, S>(values.data(), sizes_);
  }
  [[nodiscard]] bool whole() const
  {
    auto const first = start(sizes_);
    auto const now   = values();
    for (std::size_t i = 0; i < first.size(); ++i) {
      if (first[i] != S{0} && now[i] != first[i]) { return false; }
    }
    return memory_.whole();
  }

 private:
  static std::vector<S> start(GateFfnSizes const& sizes)
  {
    std::vector<S> v(static_cast<std::size_t>(flat_size<LayerT, S>(sizes)), S(-77));
    fill_values(params_at<LayerT, S>(v.data(), sizes), 0);
    return v;
  }
  GateFfnSizes sizes_;
  GuardedIn<S, ExecT> memory_;
};

// The layer's pass of layer_batch.hpp in another space than Host, with a state of the caller's.
template <class T, class LayerT, class ExecT>
  requires(!std::same_as<ExecT, Host>)
LayerPass<T> run_pass(LayerT const& layer,
                      ExecT const& exec,
                      Batch<T> const& b,
                      typename LayerT::template Saved<T, ExecT>& saved)
{
  using S         = accumulator_t<T>;
  auto const nan  = to_element<T>(std::numeric_limits<double>::quiet_NaN());
  index_t const D = b.sizes.hidden;
  BatchIn const in(exec, layer, b);
  GuardedIn<T, ExecT> const y(exec, b.tokens * D, nan), dx(exec, b.tokens * D, nan);
  index_t const elements = flat_size<LayerT, S>(b.sizes);
  GuardedIn<S, ExecT> const grads(exec, elements, S{0});
  layer.forward(exec, in.param_views(), in.input(), y.view(D), saved);
  layer.backward(exec,
                 in.param_views(),
                 saved,
                 in.input(),
                 in.dy_view(),
                 params_in<LayerT, S, ExecT>(grads.data(), b.sizes),
                 dx.view(D));
  auto const losses = saved.losses(exec);
  return {y.values(),
          dx.values(),
          grads.values(),
          {losses.begin(), losses.end()},
          saved.statistics(exec)};
}
template <class T, class LayerT, class ExecT>
  requires(!std::same_as<ExecT, Host>)
LayerPass<T> run_pass(LayerT const& layer, ExecT const& exec, Batch<T> const& b)
{
  auto saved = layer.template make_saved<T>(exec, b.sizes, b.tokens, b.sequences);
  return run_pass<T>(layer, exec, b, saved);
}

}  // namespace moe::test
