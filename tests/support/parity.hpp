#pragma once
// One layer on Host in double (the reference), on Host and on Cuda in T: the error of Cuda's
// results is at most twice Host's own in that type.
#include <moe/moe.cuh>

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "support/cuda_resource.hpp"
#include "support/space.hpp"

namespace moe::test {

// What a batch of the layer gave.
struct Outcome {
  std::vector<std::string> names;
  std::vector<std::vector<double>> values;
  std::vector<Id> expert;
  LoadStatistics statistics;
  void add(std::string name, std::vector<double> v)
  {
    names.push_back(std::move(name));
    values.push_back(std::move(v));
  }
};

template <class LayerT>
struct RouterOf;
template <class RouterT, class... Rest>
struct RouterOf<Layer<RouterT, Rest...>> {
  using type = RouterT;
};

struct ParityShape {
  index_t tokens = 67, hidden = 24, experts = 8, ffn = 40, sequences = 1;
};

// make(exec) composes the layer for a space; set_sizes(sizes) adds to its sizes.
template <class T, class ExecT, class Make, class SetSizes>
Outcome run_layer(ExecT const& exec,
                  ParityShape const& s,
                  Make const& make,
                  SetSizes const& set_sizes)
{
  using S          = accumulator_t<T>;
  auto const layer = make(exec);
  typename std::decay_t<decltype(layer)>::Sizes sizes{.hidden = s.hidden, .experts = s.experts};
  set_sizes(sizes, s);
  auto params = layer.template make_params<T>(exec, sizes);
  auto grads  = layer.template make_params<S>(exec, sizes);
  unsigned n  = 100;
  params.view().for_each([&](char const*, auto const& view, Init const& init) {
    // Rounded to bfloat16, so that every element type has the same parameters.
    double const deviation = init.variance > 0 ? std::sqrt(init.variance) : 0.1;
    std::vector<T> values;
    for (double const v : normal_numbers(view.size(), n++, deviation)) {
      values.push_back(element<T>(number(BFloat16(static_cast<float>(init.mean + v)))));
    }
    exec.copy_from_host(view.data_handle(), values.data(), values.size() * sizeof(T));
  });

  auto const rounded = [](std::vector<double> v) {
    for (auto& x : v) {
      x = number(BFloat16(static_cast<float>(x)));
    }
    return v;
  };
  auto const x  = put<T>(exec, rounded(normal_numbers(s.tokens * s.hidden, 1)), s.tokens, s.hidden);
  auto const dy = put<T>(exec, rounded(normal_numbers(s.tokens * s.hidden, 2)), s.tokens, s.hidden);
  std::vector<int> mask(static_cast<std::size_t>(s.tokens), 1);
  mask[3] = mask[static_cast<std::size_t>(s.tokens) - 1] = 0;
  auto const masked                                      = put<std::uint8_t>(exec, mask, s.tokens);
  Tensor<StepState, 1, ExecT> step(exec, 1);
  StepState const state{.step = 5, .seed = 9, .temperature = 1.5, .loss_scale = 8};
  exec.copy_from_host(step.view().data_handle(), &state, sizeof(state));

  LayerInput<T, ExecT> in{.x         = x.const_view(),
                          .sequences = s.sequences,
                          .mask      = masked.const_view(),
                          .step      = step.const_view()};
  using RouterT        = typename RouterOf<std::decay_t<decltype(layer)>>::type;
  constexpr bool given = requires { RouterT::given; };
  Tensor<Id, 2, ExecT> ids;
  Tensor<S, 2, ExecT> weights, d_weights;
  if constexpr (given) {
    constexpr index_t K = RouterT::top_k;
    std::vector<index_t> chosen;
    for (index_t a = 0; a < s.tokens * K; ++a) {
      chosen.push_back(a % 11 == 10 ? -1 : a * 7 % s.experts);
    }
    ids             = put<Id>(exec, chosen, s.tokens, K);
    weights         = put<S>(exec, rounded(normal_numbers(s.tokens * K, 3)), s.tokens, K);
    d_weights       = Tensor<S, 2, ExecT>(exec, s.tokens, K);
    in.given_expert = ids.const_view();
    in.given_weight = weights.const_view();
  }
  Tensor<T, 2, ExecT> y(exec, s.tokens, s.hidden), dx(exec, s.tokens, s.hidden),
      evaluated(exec, s.tokens, s.hidden);
  auto const saved = layer.forward(exec, params, in, y.view());
  layer.backward(
      exec, params, saved, in, dy.const_view(), grads.view(), dx.view(), d_weights.view());
  layer.evaluate(exec, params, in, evaluated.view());

  Outcome out;
  out.add("y", get_numbers(exec, y.const_view()));
  out.add("dx", get_numbers(exec, dx.const_view()));
  out.add("evaluated", get_numbers(exec, evaluated.const_view()));
  if (given) { out.add("d_given_weight", get_numbers(exec, d_weights.const_view())); }
  grads.view().for_each([&](char const* name, auto const& view, Init const&) {
    out.add(name, get_numbers(exec, view));
  });
  auto const losses = saved.losses(exec);
  out.add("losses", {losses.begin(), losses.end()});
  out.expert     = get(exec, saved.routing.expert.const_view());
  out.statistics = saved.statistics(exec);
  return out;
}

template <class T, class Make, class SetSizes>
void check_parity_in(char const* type,
                     Outcome const& reference,
                     ParityShape const& s,
                     Make const& make,
                     SetSizes const& set_sizes)
{
  CAPTURE(type);
  Host const host{{.threads = 2, .products = Products::own}};
  // In 16-bit types what nobody wrote is a NaN, and shows. Float has plain memory, in which a tool
  // sees such reads; it does not see what cuBLAS's kernels of the 16-bit types store.
  FillingPool filled(0xff);
  Cuda const cuda(nullptr, {.resource = sizeof(T) == 2 ? &filled : nullptr});
  auto const on_host = run_layer<T>(host, s, make, set_sizes);
  auto const on_cuda = run_layer<T>(cuda, s, make, set_sizes);
  CHECK(on_cuda.expert == on_host.expert);
  CHECK(on_cuda.statistics.dropped == on_host.statistics.dropped);
  CHECK(on_cuda.statistics.tokens_per_expert == on_host.statistics.tokens_per_expert);
  CHECK(on_cuda.statistics.kept_per_expert == on_host.statistics.kept_per_expert);
  REQUIRE(on_cuda.names == reference.names);
  for (std::size_t i = 0; i < reference.names.size(); ++i) {
    CAPTURE(reference.names[i]);
    double const host_error = relative_error(on_host.values[i], reference.values[i]);
    double const cuda_error = relative_error(on_cuda.values[i], reference.values[i]);
    CAPTURE(host_error);
    CAPTURE(cuda_error);
    CHECK(cuda_error <= 2 * host_error + 2e-7);
  }
}

inline constexpr auto ffn_sizes = [](auto& sizes, ParityShape const& s) {
  sizes.expert.ffn = s.ffn;
};

template <class... Ts>
struct Elements {};

// In float, and in types of 16 bits.
template <class... Ts, class Make, class SetSizes = decltype(ffn_sizes)>
void check_parity_in_types(Elements<Ts...>,
                           char const* what,
                           Make const& make,
                           SetSizes const& set_sizes = ffn_sizes,
                           ParityShape const& shape  = {})
{
  CAPTURE(what);
  Host const host{{.threads = 2, .products = Products::own}};
  auto const reference = run_layer<double>(host, shape, make, set_sizes);
  check_parity_in<float>("float", reference, shape, make, set_sizes);
  (check_parity_in<Ts>(
       std::is_same_v<Ts, Half> ? "Half" : "BFloat16", reference, shape, make, set_sizes),
   ...);
}
template <class Make, class SetSizes = decltype(ffn_sizes)>
void check_parity(char const* what,
                  Make const& make,
                  SetSizes const& set_sizes = ffn_sizes,
                  ParityShape const& shape  = {})
{
  check_parity_in_types(Elements<Half, BFloat16>{}, what, make, set_sizes, shape);
}

}  // namespace moe::test
