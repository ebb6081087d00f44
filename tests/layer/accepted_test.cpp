// Input that looks bad and is not refused: what happens with it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "support/refusals.hpp"

using moe::Id;
using moe::test::run_pass, moe::test::same_bits;
using namespace moe::test::refusal;

TEST_CASE("null is a view of nothing, and an empty batch is a batch")
{
  World w;
  auto const empty = at(nullptr, 0, D);
  auto const saved = w.layer.forward(w.exec, w.params(), Input{.x = empty}, empty);
  auto const grads = w.grads;
  w.layer.backward(w.exec, w.params(), saved, Input{.x = empty}, empty, w.grad_views(), empty);
  w.layer.evaluate(w.exec, w.params(), Input{.x = empty}, empty);
  CHECK(same_bits(w.grads, grads));
  CHECK(saved.losses(w.exec)[0] == 0);
}

TEST_CASE("a capacity factor that no memory holds is no more than a slot for every assignment")
{
  World w;
  for (double const factor : {16384.0, 1e18, 1e300}) {
    auto const layer = layer_of({}, {.factor = factor});
    auto const saved = layer.make_saved<float>(w.exec, sizes, T);
    CHECK(saved.plan.rows() == E * 2 * T);
  }
}

TEST_CASE("given ids of no expert take no slot and are counted")
{
  World w;
  GivenWorld g;
  g.id[0]          = -2;
  g.id[1]          = E;
  g.id[2]          = std::numeric_limits<Id>::min();
  g.id[5]          = std::numeric_limits<Id>::max();
  g.id[6]          = moe::no_expert;
  g.id[23]         = -1;
  auto const saved = given_layer.forward(w.exec, GivenWorld::params(w), g.in(w), w.y_view());
  auto const loads = saved.statistics(w.exec);
  CHECK(loads.invalid_ids == 4);
  CHECK(loads.assigned == 2 * T - 6);
  CHECK(std::count(w.y.begin(), w.y.begin() + D, 0.f) == D);  // token 0 has no expert left
  given_layer.backward(w.exec,
                       GivenWorld::params(w),
                       saved,
                       g.in(w),
                       w.b.dy_view(),
                       moe::test::params_at<GivenLayer, float>(w.grads.data(), given_sizes),
                       w.dx_view(),
                       at(g.d_weight.data(), T, 2));
  CHECK(std::count(w.dx.begin(), w.dx.begin() + D, 0.f) == D);
  for (int const a : {0, 1, 2, 5, 6, 23}) {
    CHECK(g.d_weight[static_cast<std::size_t>(a)] == 0);
  }
  CHECK(g.d_weight[3] != 0);
}

TEST_CASE("a step state is read where the work runs, so nothing in it is refused")
{
  World w;
  auto b           = w.b;
  auto const clean = run_pass<float>(w.layer, w.exec, b);
  // The loss scale goes into what the losses' gradients reach, and nothing else.
  b.step            = {moe::StepState{.loss_scale = not_a_number}};
  auto const scaled = run_pass<float>(w.layer, w.exec, b);
  CHECK(same_bits(scaled.y, clean.y));
  CHECK(same_bits(scaled.losses, clean.losses));
  CHECK(std::isnan(scaled.dx[0]));
  auto scaled_grads = scaled.grads, clean_grads = clean.grads;
  auto const of_scaled = moe::test::params_at<Layer, float>(scaled_grads.data(), sizes);
  auto const of_clean  = moe::test::params_at<Layer, float>(clean_grads.data(), sizes);
  CHECK(std::isnan(of_scaled.gate.w(0, 0)));
  CHECK(moe::test::numbers_of(of_scaled.experts.w_in) ==
        moe::test::numbers_of(of_clean.experts.w_in));
  CHECK(moe::test::numbers_of(of_scaled.experts.w_out) ==
        moe::test::numbers_of(of_clean.experts.w_out));
  // A gate without one does not look at the temperature; with one, its logits are counted.
  b.step = {moe::StepState{.temperature = not_a_number}};
  CHECK(run_pass<float>(w.layer, w.exec, b) == clean);
  moe::Layer const tempered{Router{},
                            moe::Dropless{},
                            moe::BatchedDispatcher{},
                            expert,
                            moe::TemperedGate<moe::LinearGate>{}};
  auto const warm =
      moe::test::params_at<std::decay_t<decltype(tempered)>, float const>(b.params.data(), sizes);
  auto const saved = tempered.forward(w.exec, warm, b.input(), w.y_view());
  CHECK(saved.statistics(w.exec).non_finite_tokens == T);
}
