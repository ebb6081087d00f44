#pragma once
// One training step of a layer that uses most of the library, in bfloat16 on the GPU, with memory
// that is made once: what the tests of bits, graphs, streams and refusals repeat.
#include <cstddef>
#include <cstring>
#include <vector>

#include <moe/moe.cuh>

#include "support/space.hpp"

namespace moe::test {

constexpr index_t T = 131, D = 64, E = 8, F = 48;

inline auto const step_layer = Layer{NoisyTopK<2>{},
                                     Dropless{},
                                     BatchedDispatcher{},
                                     Ffn<SwiGlu>{},
                                     TemperedGate<LinearGate>{},
                                     SwitchLoss{},
                                     RouterZLoss{}};
using StepLayer              = std::decay_t<decltype(step_layer)>;
using ElementT               = BFloat16;

struct Step {
  explicit Step(Cuda const& e)
      : exec{e},
        params{step_layer.make_params<ElementT>(exec,
                                                {.hidden = D, .experts = E, .expert = {.ffn = F}})},
        grads{step_layer.make_params<float>(exec, params.sizes())},
        x{put<ElementT>(exec, normal_numbers(T * D, 1), T, D)},
        dy{put<ElementT>(exec, normal_numbers(T * D, 2), T, D)},
        y(exec, T, D),
        dx(exec, T, D),
        state(exec, 1),
        saved{step_layer.make_saved<ElementT>(exec, params.sizes(), T)}
  {
    initialize(exec, params.view(), 42);
    set_state({.step = 1, .seed = 3});
  }
  void set_state(StepState const& s)
  {
    exec.copy_from_host(state.view().data_handle(), &s, sizeof(s));
  }
  [[nodiscard]] LayerInput<ElementT, Cuda> input() const
  {
    return {.x = x.const_view(), .step = state.const_view()};
  }
  void forward() { forward(input(), y.view()); }
  void forward(LayerInput<ElementT, Cuda> const& in, View<ElementT, 2, Cuda> out)
  {
    step_layer.forward(exec, params, in, out, saved);
  }
  void backward()
  {
    step_layer.backward(exec, params, saved, input(), dy.const_view(), grads.view(), dx.view());
  }
  void run()
  {
    exec.zero(grads.flat().data_handle(),
              static_cast<std::size_t>(grads.flat().size()) * sizeof(float));
    forward();
    backward();
  }
  // Bytes of all results.
  [[nodiscard]] std::vector<unsigned char> bits() const
  {
    std::vector<unsigned char> all;
    auto const append = [&](auto const& view) {
      auto const values = get(exec, view);
      auto const bytes  = values.size() * sizeof(values[0]);
      all.resize(all.size() + bytes);
      std::memcpy(all.data() + all.size() - bytes, values.data(), bytes);
    };
    append(y.const_view());
    append(dx.const_view());
    append(grads.const_flat());
    append(saved.loss_values.const_view());
    append(saved.routing.expert.const_view());
    return all;
  }

  Cuda exec;
  decltype(step_layer.make_params<ElementT>(std::declval<Cuda>(), {})) params;
  decltype(step_layer.make_params<float>(std::declval<Cuda>(), {})) grads;
  Tensor<ElementT, 2, Cuda> x, dy, y, dx;
  Tensor<StepState, 1, Cuda> state;
  StepLayer::Saved<ElementT, Cuda> saved;
};

}  // namespace moe::test
