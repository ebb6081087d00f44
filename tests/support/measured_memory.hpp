#pragma once
// What a layer asks a Host's memory resource for, pass by pass, to hold a memory plan against.
#include <doctest/doctest.h>

#include <moe/core/initialize.hpp>
#include <moe/layer/memory_plan.hpp>

#include "support/numbers.hpp"
#include "support/tracking_resource.hpp"

namespace moe::test {

struct MeasuredMemory {
  std::size_t params = 0, grads = 0, saved = 0;
  std::size_t forward = 0, backward = 0, evaluate = 0;  // high-water marks beside params and grads
  std::size_t second_forward = 0, second_backward = 0;
  index_t rows = 0;      // R
  std::vector<Id> kept;  // (E) choices that have a slot
};

// Arguments of a call, which are the caller's: not from the resource that counts.
template <class T, class LayerT>
struct CallArguments {
  std::vector<T> x, y, dx;
  std::vector<std::uint8_t> mask;
  std::vector<Id> id;
  std::vector<accumulator_t<T>> weight;
  LayerInput<T, Host> in;

  CallArguments(index_t tokens, index_t hidden, index_t experts, MemoryPlanOptions const& options)
      : x(numbers(tokens * hidden)),
        y(x.size()),
        dx(x.size()),
        mask(options.mask ? static_cast<std::size_t>(tokens) : 0, std::uint8_t{1})
  {
    in.x         = View<T const, 2, Host>(x.data(), tokens, hidden);
    in.sequences = options.sequences;
    if (options.mask) {
      for (std::size_t t = 0; t < mask.size(); t += 3) {
        mask[t] = 0;
      }
      in.mask = View<std::uint8_t const, 1, Host>(mask.data(), tokens);
    }
    using Metered = detail::MeteredLayer<LayerT>;
    if constexpr (Metered::given) {
      constexpr index_t K = Metered::choices;
      for (index_t a = 0; a < tokens * K; ++a) {
        id.push_back(static_cast<Id>((a * 7 + a / K) % experts));
        weight.push_back(accumulator_t<T>(0.5));
      }
      in.given_expert = View<Id const, 2, Host>(id.data(), tokens, K);
      in.given_weight = View<accumulator_t<T> const, 2, Host>(weight.data(), tokens, K);
    }
  }
  static std::vector<T> numbers(index_t n)
  {
    std::vector<T> to;
    for (index_t i = 0; i < n; ++i) {
      to.push_back(to_element<T>(static_cast<double>(i * 37 % 101) / 64 - 0.75));
    }
    return to;
  }
  View<T, 2, Host> out(std::vector<T>& to) const
  {
    return View<T, 2, Host>(to.data(), in.x.extent(0), in.x.extent(1));
  }
};

template <class T, class G, class LayerT>
MeasuredMemory measure_memory(LayerT const& layer,
                              typename LayerT::Sizes const& sizes,
                              index_t tokens,
                              MemoryPlanOptions const& options = {})
{
  CountingResource counting;
  Host const exec{{.threads  = options.space.threads,
                   .resource = &counting,
                   .products = options.space.products}};
  CallArguments<T, LayerT> call(tokens, sizes.hidden, sizes.experts, options);
  MeasuredMemory m;
  auto params = layer.template make_params<T>(exec, sizes);
  m.params    = counting.bytes();
  auto grads  = layer.template make_params<G>(exec, sizes);
  m.grads     = counting.bytes() - m.params;
  initialize(exec, params.view(), 1);
  std::size_t const base = counting.bytes();
  auto const most_of     = [&](auto const& work) {
    counting.reset_high_water();
    work();
    return counting.high_water() - base;
  };
  auto const evaluate = [&] { layer.evaluate(exec, params, call.in, call.out(call.y)); };
  m.evaluate          = most_of(evaluate);
  {
    counting.reset_high_water();
    auto saved          = layer.template make_saved<T>(exec, sizes, tokens, options.sequences);
    auto const forward  = [&] { layer.forward(exec, params, call.in, call.out(call.y), saved); };
    auto const backward = [&] {
      layer.backward(exec, params, saved, call.in, call.in.x, grads.view(), call.out(call.dx));
    };
    forward();
    m.forward         = counting.high_water() - base;
    m.saved           = counting.bytes() - base;
    m.backward        = most_of(backward);
    m.second_forward  = most_of(forward);
    m.second_backward = most_of(backward);
    CHECK(counting.bytes() - base == m.saved);
    m.rows = saved.plan.rows();
    if constexpr (requires { saved.experts.trip.rows(); }) {
      bool const alone = detail::MeteredLayer(layer).dispatcher().communicator().size() == 1;
      if (!alone) { m.rows = saved.experts.trip.rows(); }
    }
    auto const kept = saved.plan.kept_per_expert.const_view();
    m.kept.assign(kept.data_handle(), kept.data_handle() + kept.extent(0));
  }
  CHECK(counting.bytes() == base);
  CHECK(counting.mistakes() == 0);
  return m;
}

inline void check_measured(MemoryPlan const& plan, MeasuredMemory const& m)
{
  CHECK(plan.params == m.params);
  CHECK(plan.grads == m.grads);
  CHECK(plan.saved == m.saved);
  CHECK(plan.forward == std::max(m.forward, m.second_forward));
  CHECK(plan.backward == m.backward);
  CHECK(plan.evaluate == m.evaluate);
  CHECK(plan.backward == m.second_backward);
  // The buffers are all there is.
  CHECK(plan.at_peak(Lifetime::params) == plan.params);
  CHECK(plan.at_peak(Lifetime::grads) == plan.grads);
  CHECK(plan.at_peak(Lifetime::saved) == plan.saved);
  CHECK(plan.at_peak(Lifetime::backward) + plan.saved == plan.backward);
  CHECK(plan.at_peak(Lifetime::evaluate) == plan.evaluate);
  CHECK(plan.at_peak(Lifetime::forward) + plan.saved >= plan.forward);
}

}  // namespace moe::test
