// What a training loop relies on: the same bits, graphs, memory, errors that are somebody else's.
#include "support/cuda_resource.hpp"
#include "support/space.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include <moe/moe.cuh>

using namespace moe;
using namespace moe::test;

namespace {

constexpr index_t T = 131, D = 64, E = 8, F = 48;

auto const layer = Layer{NoisyTopK<2>{},
                         Dropless{},
                         BatchedDispatcher{},
                         Ffn<SwiGlu>{},
                         TemperedGate<LinearGate>{},
                         SwitchLoss{},
                         RouterZLoss{}};
using LayerT     = std::decay_t<decltype(layer)>;
using ElementT   = BFloat16;

// Everything of one step, made once.
struct Step {
  explicit Step(Cuda const& e)
      : exec{e},
        params{
            layer.make_params<ElementT>(exec, {.hidden = D, .experts = E, .expert = {.ffn = F}})},
        grads{layer.make_params<float>(exec, params.sizes())},
        x{put<ElementT>(exec, normal_numbers(T * D, 1), T, D)},
        dy{put<ElementT>(exec, normal_numbers(T * D, 2), T, D)},
        y(exec, T, D),
        dx(exec, T, D),
        state(exec, 1),
        saved{layer.make_saved<ElementT>(exec, params.sizes(), T)}
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
  void forward() { layer.forward(exec, params, input(), y.view(), saved); }
  void backward()
  {
    layer.backward(exec, params, saved, input(), dy.const_view(), grads.view(), dx.view());
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
  decltype(layer.make_params<ElementT>(std::declval<Cuda>(), {})) params;
  decltype(layer.make_params<float>(std::declval<Cuda>(), {})) grads;
  Tensor<ElementT, 2, Cuda> x, dy, y, dx;
  Tensor<StepState, 1, Cuda> state;
  LayerT::Saved<ElementT, Cuda> saved;
};

}  // namespace

TEST_CASE("100 runs have the same bits")
{
  Step step{Cuda{}};
  step.run();
  auto const first = step.bits();
  bool same        = true;
  for (int i = 0; i < 100; ++i) {
    step.run();
    same = same && step.bits() == first;
  }
  CHECK(same);
}

TEST_CASE(
    "a replayed graph has the bits of an eager step, with new input, step, temperature, loss scale")
{
  Step step{Cuda{}}, eager{Cuda{}};
  step.run();  // makes what is made once
  step.exec.synchronize();
  cudaStream_t const stream = step.exec.stream();
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  step.run();
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  cudaGraphExec_t replay = nullptr;
  REQUIRE(cudaGraphInstantiate(&replay, graph, 0) == cudaSuccess);
  for (unsigned i = 0; i < 5; ++i) {
    StepState const state{
        .step = 10 + i, .seed = 7, .temperature = 1 + 0.5 * i, .loss_scale = 1. * (1 << i)};
    for (Step* s : {&step, &eager}) {
      auto const x = put<ElementT>(s->exec, normal_numbers(T * D, 20 + i), T, D);
      s->exec.copy(s->x.view().data_handle(), x.const_view().data_handle(), x.bytes());
      s->set_state(state);
    }
    REQUIRE(cudaGraphLaunch(replay, stream) == cudaSuccess);
    eager.run();
    auto const a = step.bits(), b = eager.bits();
    CHECK(a == b);
  }
  CHECK(cudaGraphExecDestroy(replay) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
}

TEST_CASE("batch neighbours do not matter with the library's own products")
{
  Cuda const exec(nullptr, {.products = Products::own});
  auto const plain = Layer{GivenRouting<2>{}, Dropless{}, BatchedDispatcher{}, Ffn<SwiGlu>{}};
  auto params =
      plain.make_params<ElementT>(exec, {.hidden = D, .experts = E, .expert = {.ffn = F}});
  initialize(exec, params.view(), 1);
  auto const x = normal_numbers(T * D, 1);
  std::vector<index_t> ids;
  for (index_t a = 0; a < 2 * T; ++a) {
    ids.push_back(a * 5 % E);
  }
  auto const run = [&](index_t first, index_t tokens) {
    auto const part = [&](auto const& v, index_t each) {
      return std::vector(v.begin() + first * each, v.begin() + (first + tokens) * each);
    };
    auto const xs     = put<ElementT>(exec, part(x, D), tokens, D);
    auto const expert = put<Id>(exec, part(ids, 2), tokens, 2);
    auto const weights =
        put<float>(exec, std::vector<double>(static_cast<std::size_t>(2 * tokens), 0.5), tokens, 2);
    Tensor<ElementT, 2, Cuda> y(exec, tokens, D);
    plain.evaluate(exec,
                   params,
                   LayerInput<ElementT, Cuda>{.x            = xs.const_view(),
                                              .given_expert = expert.const_view(),
                                              .given_weight = weights.const_view()},
                   y.view());
    return get_numbers(exec, y.const_view());
  };
  auto const whole = run(0, T);
  for (auto const& [first, tokens] : {std::pair<index_t, index_t>{0, 1}, {17, 40}, {100, 31}}) {
    auto const part = run(first, tokens);
    CHECK(std::equal(part.begin(), part.end(), whole.begin() + first * D));
  }
}

TEST_CASE("the steady state asks the driver for nothing")
{
  int device = 0;
  REQUIRE(cudaGetDevice(&device) == cudaSuccess);
  Step step{Cuda{}};
  for (int i = 0; i < 3; ++i) {
    step.run();
  }
  step.exec.synchronize();
  std::size_t before = 0, after = 0, total = 0;
  REQUIRE(cudaMemGetInfo(&before, &total) == cudaSuccess);
  for (int i = 0; i < 20; ++i) {
    step.run();
  }
  step.exec.synchronize();
  REQUIRE(cudaMemGetInfo(&after, &total) == cudaSuccess);
  CHECK(before == after);
}

TEST_CASE("whichever allocation fails, nothing leaks and the layer works afterwards")
{
  WatchedPool pool;
  {
    Cuda const exec(nullptr, {.resource = &pool});
    Step step{exec};
    step.run();
    auto const expected      = step.bits();
    std::size_t const blocks = pool.blocks();
    for (bool const in_backward : {false, true}) {
      std::size_t k = 0;
      do {
        pool.fail_at(0);
        if (in_backward) { step.forward(); }
        pool.fail_at(++k);
        try {
          in_backward ? step.backward() : step.forward();
        } catch (OutOfMemoryError const&) {
        }
        CHECK(pool.blocks() == blocks);
      } while (pool.failed());
      CHECK(k > 3);
      pool.fail_at(0);
      step.run();
      CHECK(step.bits() == expected);
    }
  }
  CHECK(pool.blocks() == 0);
}

TEST_CASE("a pending error is neither swallowed nor blamed on the layer")
{
  Step step{Cuda{}};
  step.run();
  step.exec.synchronize();
  (void)cudaSetDevice(12345);  // leaves cudaErrorInvalidDevice pending
  CHECK_THROWS_WITH_AS(
      step.forward(), doctest::Contains("an error of an earlier CUDA call is"), CudaError);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  CHECK_NOTHROW(step.run());
}
