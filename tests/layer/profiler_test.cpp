// Compile at -O1: a layer, little work in it.
// On every space.
// A layer under a profiler: its phases, their sums, the same bits and memory as without.
#include "support/spaces.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <vector>

#include <moe/exec/profile_text.hpp>

using moe::index_t, moe::Phase, moe::ProfileReport, moe::Products, moe::Tensor;
using moe::test::get, moe::test::normal_numbers, moe::test::put, moe::test::TestSpace;
using Profiler = TestSpace::profiler_type;

namespace {

constexpr index_t T = 67, D = 16;

auto const layer = moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                              moe::DropByPosition{moe::CeilCapacity{.factor = 0.75}},
                              moe::BatchedDispatcher{},
                              moe::Ffn<moe::SwiGlu>{},
                              moe::SharedExpert<moe::Ffn<moe::SwiGlu>>{},
                              moe::SwitchLoss{.coeff = 1e-2},
                              moe::RouterZLoss{.coeff = 1e-3}};

// All memory of a training step; a step is a forward, a backward and an evaluation.
struct Work {
  explicit Work(TestSpace const& e)
      : exec{e},
        params{layer.make_params<float>(
            exec,
            {.hidden = D, .experts = 6, .expert = {.ffn = 20}, .shared = {.expert = {.ffn = 12}}})},
        grads{layer.make_params<float>(exec, params.sizes())},
        x{put<float>(exec, normal_numbers(T * D, 1), T, D)},
        dy{put<float>(exec, normal_numbers(T * D, 2), T, D)},
        y(exec, T, D),
        dx(exec, T, D),
        evaluated(exec, T, D),
        saved{layer.make_saved<float>(exec, params.sizes(), T)}
  {
    moe::initialize(exec, params.view(), 42);
  }
  void run()
  {
    layer.forward(exec, params, x.const_view(), y.view(), saved);
    layer.backward(exec, params, saved, x.const_view(), dy.const_view(), grads.view(), dx.view());
    layer.evaluate(exec, params, x.const_view(), evaluated.view());
  }
  [[nodiscard]] std::vector<std::vector<float>> results() const
  {
    return {get(exec, y.const_view()),
            get(exec, dx.const_view()),
            get(exec, evaluated.const_view()),
            get(exec, grads.const_flat()),
            get(exec, saved.loss_values.const_view())};
  }

  TestSpace exec;
  decltype(layer.make_params<float>(std::declval<TestSpace>(), {})) params, grads;
  Tensor<float, 2, TestSpace> x, dy, y, dx, evaluated;
  std::decay_t<decltype(layer)>::Saved<float, TestSpace> saved;
};

TestSpace own()
{
  return moe::test::test_space(Products::own);
}

}  // namespace

TEST_CASE("a layer's phases are those of its stages, and add up to its passes")
{
  Profiler profiler;
  Work work(own().with(profiler));
  constexpr int steps = 5;
  auto const start    = std::chrono::steady_clock::now();
  for (int step = 0; step < steps; ++step) {
    work.run();
    profiler.end_step();
  }
  auto const r                                         = profiler.report();
  std::chrono::duration<double, std::milli> const wall = std::chrono::steady_clock::now() - start;

  CHECK(r.steps == steps);
  struct Expected {
    Phase stage;
    double forward, backward, evaluate;
  };
  for (auto const& e : {Expected{Phase::router, 1, 3, 1},
                        {Phase::plan, 1, 0, 1},
                        {Phase::dispatch, 0, 2, 0},
                        {Phase::communication, 0, 0, 0},
                        {Phase::experts, 1, 2, 1},
                        {Phase::combine, 1, 1, 1},
                        {Phase::shared_expert, 1, 2, 1},
                        {Phase::losses, 1, 2, 0}}) {
    CAPTURE(moe::name_of(e.stage));
    CHECK(r.of(Phase::forward, e.stage).calls == e.forward);
    CHECK(r.of(Phase::backward, e.stage).calls == e.backward);
    CHECK(r.of(Phase::evaluate, e.stage).calls == e.evaluate);
    CHECK((r.of(e.stage).ms > 0) == (e.stage != Phase::communication));
  }
  double all = 0;
  for (Phase const pass : {Phase::forward, Phase::backward, Phase::evaluate}) {
    CHECK(r.of(pass).calls == 1);
    all += r.of(pass).ms;
  }
  CHECK(all * steps <= wall.count());
  double stages = 0;
  for (int i = 0; i < moe::stage_phases; ++i) {
    stages += r.of(static_cast<Phase>(i)).ms;
    CHECK(r.times[ProfileReport::passes - 1][i].calls == 0);  // nothing outside of the passes
  }
  CHECK(stages <= all);
  CHECK(stages > 0.1 * all);
  CHECK(r.computation_ms == doctest::Approx(stages));
  CHECK(r.communication_ms == 0);
  CHECK(r.bytes_sent == 0);
  CHECK(to_text(r).find("shared expert") != std::string::npos);
}

TEST_CASE("the same bits with and without; drops and loads are those of the batch")
{
  Work plain(own());
  plain.run();
  Profiler profiler;
  Work profiled(own().with(profiler));
  profiled.run();
  CHECK(plain.results() == profiled.results());

  auto const loads = profiled.saved.statistics(profiled.exec);
  profiler.add_load(loads);
  auto const r = profiler.report();
  CHECK(r.dropped == loads.dropped_fraction());
  CHECK(r.dropped > 0);
  CHECK(r.load_max_over_mean == loads.max_over_mean());
}

TEST_CASE("memory: the most that was in use; a step gives back what it took")
{
  Profiler profiler;
  Work work(own().with(profiler));
  profiler.reset();
  double const held = profiler.report().arena_bytes;
  double sum        = 0;
  for (auto const* t : {&work.x, &work.dy, &work.y, &work.dx, &work.evaluated}) {
    sum += static_cast<double>(t->bytes());
  }
  CHECK(held > sum);
  work.run();
  double const most = profiler.report().arena_bytes;
  CHECK(most > held);
  work.run();
  CHECK(profiler.report().arena_bytes == most);
  profiler.reset();
  CHECK(profiler.report().arena_bytes == held);
}

TEST_CASE("lanes carry the profiler; an unprofiled handle of the same space does not")
{
  Profiler profiler;
  TestSpace const plain = own();
  TestSpace const exec  = plain.with(profiler);
  Tensor<float, 1, TestSpace> a(exec, 1 << 16), b(exec, 1 << 16);
  exec.synchronize();
  {
    auto const pass = exec.phase(Phase::forward);
    auto const side = exec.lane(1);
    side.wait(exec.mark());
    {
      auto const phase = side.phase(Phase::communication);
      side.count_sent(a.bytes());
      side.zero(a.view().data_handle(), a.bytes());
    }
    {
      auto const phase = exec.phase(Phase::experts);
      exec.zero(b.view().data_handle(), b.bytes());
    }
    exec.wait(side.mark());
    auto const unseen = plain.lane(1).phase(Phase::combine);
    plain.count_sent(1);
  }
  auto const r = profiler.report();
  CHECK(r.of(Phase::forward, Phase::communication).calls == 1);
  CHECK(r.of(Phase::forward, Phase::experts).calls == 1);
  CHECK(r.of(Phase::communication).ms > 0);
  CHECK(r.overlap >= 0);
  CHECK(r.overlap <= 1);
  CHECK(r.of(Phase::combine).calls == 0);
  CHECK(r.bytes_sent == static_cast<double>(a.bytes()));
}

TEST_CASE("a refused call, and one that a caller's exception ends, leave the profiler whole")
{
  Profiler profiler;
  Work work(own().with(profiler));
  CHECK_THROWS_AS(
      layer.forward(work.exec,
                    work.params,
                    work.x.const_view(),
                    moe::View<float, 2, TestSpace>(work.y.view().data_handle(), T - 1, D),
                    work.saved),
      moe::ShapeError);
  work.run();
  auto const r = profiler.report();
  CHECK(r.of(Phase::forward, Phase::router).calls == 1);
  CHECK(r.of(Phase::backward).calls == 1);
}
