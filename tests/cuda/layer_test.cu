// What a training loop relies on: the same bits, graphs, memory, errors that are somebody else's.
#include "support/cuda_resource.hpp"
#include "support/cuda_step.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <utility>

using namespace moe;
using namespace moe::test;

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

TEST_CASE("memory that nobody wrote has no influence")
{
  Step plain{Cuda{}};
  plain.run();
  for (unsigned char const fill : {0x00, 0x3f, 0xff}) {  // zeros, numbers, NaNs
    CAPTURE(static_cast<int>(fill));
    FillingPool pool(fill);
    Step step{Cuda(nullptr, {.resource = &pool})};
    step.run();
    CHECK(step.bits() == plain.bits());
  }
}

TEST_CASE("whichever allocation fails, nothing leaks and the layer works afterwards")
{
  WatchedPool pool;
  {
    Cuda const exec(nullptr, {.resource = &pool});
    Step step{exec};
    step.run();
    auto const expected                                         = step.bits();
    std::size_t const blocks                                    = pool.blocks();
    auto const sizes                                            = step.params.sizes();
    std::pair<char const*, std::function<void()>> const calls[] = {
        {"make_params", [&] { (void)step_layer.make_params<ElementT>(exec, sizes); }},
        {"make_saved", [&] { (void)step_layer.make_saved<ElementT>(exec, sizes, T); }},
        {"forward", [&] { step.forward(); }},
        {"backward", [&] { step.backward(); }},
        {"evaluate", [&] { step_layer.evaluate(exec, step.params, step.input(), step.y.view()); }}};
    for (auto const& [what, call] : calls) {
      CAPTURE(what);
      std::size_t k = 0;
      do {
        pool.fail_at(0);
        step.forward();  // what backward reads
        pool.fail_at(++k);
        bool reported = false;
        try {
          call();
        } catch (OutOfMemoryError const&) {
          reported = true;
        }
        CHECK(reported == pool.failed());
        CHECK(pool.blocks() == blocks);
      } while (pool.failed());
      CHECK(k > 1);
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
