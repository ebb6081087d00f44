#pragma once
// One rank's passes of a layer over ranks, on a part of a batch in a GPU's memory.
#include <moe/expert_parallel.hpp>
#include <moe/moe.cuh>

#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include "support/space_batch.hpp"

namespace moe::test::rank_layer {

inline constexpr GateFfnSizes sizes{.hidden = 64, .experts = 6, .expert = {.ffn = 40}};
inline constexpr index_t tokens = 101;

template <class CapacityT, class DispatcherT>
auto layer_of(CapacityT capacity, DispatcherT const& dispatcher)
{
  return moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                    capacity,
                    dispatcher,
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = 1e-1}};
}

// In the place of a capacity policy: experts that choose have their own.
template <class DispatcherT>
auto layer_of(moe::ExpertChoice router, DispatcherT const& dispatcher)
{
  return moe::Layer{
      router, moe::Dropless{}, dispatcher, moe::Ffn<moe::SwiGlu>{}, moe::SwitchLoss{.coeff = 1e-1}};
}

template <class T>
struct Pass {
  using S = moe::accumulator_t<T>;
  std::vector<T> y, evaluated, dx;
  std::vector<S> expert_grads;
};

// As near as products that are summed in another order.
template <class T>
bool near(std::vector<T> const& a, std::vector<T> const& b)
{
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    double const x = static_cast<float>(a[i]), y = static_cast<float>(b[i]);
    error += (x - y) * (x - y);
    norm += y * y;
  }
  return a.size() == b.size() && error <= (sizeof(T) == 2 ? 1e-5 : 1e-10) * norm;
}

template <class V>
void append(V& to, V const& more)
{
  to.insert(to.end(), more.begin(), more.end());
}

// One rank's part [first, first + count) of the batch. Numbers are such that logits are exact.
template <class T, class LayerT>
Pass<T> run_rank(LayerT const& layer,
                 Cuda const& exec,
                 Batch<T> const& whole,
                 index_t first,
                 index_t count,
                 moe::ExpertRange experts)
{
  using S         = moe::accumulator_t<T>;
  index_t const D = sizes.hidden;
  auto const part = [&](std::vector<T> const& v) {
    return std::vector<T>(v.begin() + first * D, v.begin() + (first + count) * D);
  };
  GuardedIn<T, Cuda> const x(exec, part(whole.x)), dy(exec, part(whole.dy));
  T const nan = moe::test::to_element<T>(std::numeric_limits<double>::quiet_NaN());
  GuardedIn<T, Cuda> const y(exec, count * D, nan), e(exec, count * D, nan),
      dx(exec, count * D, nan);
  auto const rows = [&](GuardedIn<T, Cuda> const& m) {
    return moe::View<T, 2, Cuda>(m.data(), count, D);
  };
  auto params     = layer.template make_params<T>(exec, sizes);
  auto grads      = layer.template make_params<S>(exec, sizes);
  auto const from = whole.param_views(layer);
  auto const copy = [&](auto const& all, auto const& mine, index_t at) {
    index_t const each = all.size() / all.extent(0);
    exec.copy_from_host(mine.data_handle(),
                        all.data_handle() + at * each,
                        static_cast<std::size_t>(mine.size()) * sizeof(T));
  };
  copy(from.gate.w, params.view().gate.w, 0);
  copy(from.experts.w_in, params.view().experts.w_in, experts.first);
  copy(from.experts.w_out, params.view().experts.w_out, experts.first);
  moe::LayerInput<T, Cuda> in{.x = rows(x)};
  in.first_token = first;
  auto saved     = layer.template make_saved<T>(exec, sizes, count);
  layer.evaluate(exec, params, in, rows(e));
  for (int again = 0; again < 2; ++again) {  // the state is used again
    layer.forward(exec, params, in, rows(y), saved);
  }
  layer.backward(exec, params, saved, in, rows(dy), grads.view(), rows(dx));
  layer.all_reduce_gradients(exec, grads.view());
  exec.synchronize();  // a copy to the host might keep ranks that share the GPU from the driver
  CHECK(y.whole());
  CHECK(dx.whole());

  Pass<T> out{y.values(), e.values(), dx.values(), {}};
  auto const w_in  = moe::test::get(exec, grads.view().experts.w_in);
  auto const w_out = moe::test::get(exec, grads.view().experts.w_out);
  for (index_t i = 0; i < experts.count; ++i) {
    for (auto const* v : {&w_in, &w_out}) {
      auto const each = static_cast<index_t>(v->size()) / experts.count;
      out.expert_grads.insert(
          out.expert_grads.end(), v->begin() + i * each, v->begin() + (i + 1) * each);
    }
  }
  return out;
}

}  // namespace moe::test::rank_layer
