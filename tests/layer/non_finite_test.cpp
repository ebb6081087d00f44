// Compile at -O1: little work.
// On every space.
// Logits that are no numbers: counted, kept to their token, and never an index out of bounds.
#include "support/spaces.hpp"

#include <doctest/doctest.h>

#include <set>
#include <utility>

#include "support/space_batch.hpp"

using moe::index_t, moe::Products;
using moe::test::Batch, moe::test::BatchIn, moe::test::GateFfnSizes, moe::test::get,
    moe::test::GradsIn, moe::test::GuardedIn, moe::test::same_bits, moe::test::TestSpace;

namespace {

template <class CapacityT = moe::Dropless>
auto layer_of(CapacityT capacity = {})
{
  return moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                    capacity,
                    moe::BatchedDispatcher{},
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = 0.5},
                    moe::RouterZLoss{.coeff = 0.25}};
}

}  // namespace

TEST_CASE("logits that are no numbers are counted, and stay with their token")
{
  constexpr float inf = std::numeric_limits<float>::infinity();
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr index_t T = 40, D = 6, E = 5;
  moe::DropByPosition const capacity{moe::FixedCapacity{7}};
  auto const dropless = layer_of();
  auto const bounded  = layer_of(capacity);
  GateFfnSizes const sizes{.hidden = D, .experts = E, .expert = {.ffn = 3}};
  auto const clean     = Batch<float>::make(dropless, sizes, T, 3);
  TestSpace const exec = moe::test::test_space(Products::own);

  // Runs `layer`, checks that ids are experts' and nothing is written beside the outputs, and
  // returns y and the number of tokens counted.
  auto const run = [&](auto const& layer, Batch<float> const& b) {
    using LayerT = std::decay_t<decltype(layer)>;
    BatchIn const in(exec, layer, b);
    GuardedIn<float, TestSpace> const y(exec, T * D, 0), dx(exec, T * D, 0);
    GradsIn<LayerT, float, TestSpace> const grads(exec, b.sizes);
    auto const p     = in.param_views();
    auto const saved = layer.forward(exec, p, in.input(), y.view(D));
    layer.backward(exec, p, saved, in.input(), in.dy_view(), grads.views(), dx.view(D));
    auto const expert = get(exec, saved.routing.expert.const_view());
    for (index_t t = 0; t < T; ++t) {
      auto const id = [&](index_t k) { return expert[static_cast<std::size_t>(t * 2 + k)]; };
      REQUIRE((id(0) >= 0 && id(0) < E && id(1) >= 0 && id(1) < E && id(0) != id(1)));
    }
    auto const loads = saved.statistics(exec);
    CHECK(loads.assigned == 2 * T);
    CHECK((y.whole() && dx.whole() && grads.whole()));
    return std::pair{y.values(), loads.non_finite_tokens};
  };
  auto const expected = run(dropless, clean);
  CHECK(expected.second == 0);

  SUBCASE("from x")
  {
    for (float const bad : {nan, inf, -inf, std::numeric_limits<float>::max()}) {
      CAPTURE(bad);
      auto b = clean;
      std::set<index_t> const where{0, 7, T - 1};
      for (index_t const t : where) {
        b.x[static_cast<std::size_t>(t * D + t % D)] = bad;
      }
      b.x[7 * D] = b.x[7 * D + 1] = bad;
      auto const got              = run(dropless, b);
      if (bad != std::numeric_limits<float>::max()) { CHECK(got.second == 3); }
      for (index_t t = 0; t < T; ++t) {
        if (where.count(t) != 0) { continue; }
        CAPTURE(t);
        CHECK(same_bits(b.rows_of(got.first, {t}), b.rows_of(expected.first, {t})));
      }
      (void)run(bounded, b);
    }
    auto b = clean;
    std::fill(b.x.begin(), b.x.end(), nan);
    CHECK(run(dropless, b).second == T);
    CHECK(run(bounded, b).second == T);
  }
  SUBCASE("from the gate")
  {
    for (float const bad : {nan, inf, -inf}) {
      CAPTURE(bad);
      auto b = clean;
      for (float& v : b.x) {
        v = v == 0 ? 0.125f : v;  // 0 times infinity is another case than the one meant
      }
      auto const gate =
          moe::test::params_at<std::decay_t<decltype(dropless)>, float>(b.params.data(), b.sizes)
              .gate.w;
      gate(2, 1) = bad;
      CHECK(run(dropless, b).second == T);
      CHECK(run(bounded, b).second == T);
      for (index_t i = 0; i < gate.size(); ++i) {
        gate.data_handle()[i] = bad;
      }
      CHECK(run(dropless, b).second == T);
      CHECK(run(bounded, b).second == T);
    }
  }
  SUBCASE("a masked token's are not counted")
  {
    auto b     = clean;
    b.x[9 * D] = nan;
    b.mask.assign(T, 1);
    b.mask[9] = 0;
    BatchIn const in(exec, dropless, b);
    GuardedIn<float, TestSpace> const y(exec, T * D, nan);
    auto const saved = dropless.forward(exec, in.param_views(), in.input(), y.view(D));
    CHECK(saved.statistics(exec).non_finite_tokens == 0);
    CHECK(same_bits(b.rows_of(y.values(), {9}), std::vector<float>(D, 0.f)));
  }
  SUBCASE("a masked token's reach no gradient")
  {
    auto b = clean;
    b.mask.assign(T, 1);
    b.mask[0] = b.mask[9] = b.mask[T - 1] = 0;
    using LayerT                          = std::decay_t<decltype(dropless)>;
    auto const gradients                  = [&](float held) {
      for (index_t t : {index_t{0}, index_t{9}, T - 1}) {
        std::fill_n(b.x.begin() + t * D, D, held);
      }
      BatchIn const in(exec, dropless, b);
      GuardedIn<float, TestSpace> const y(exec, T * D, 0), dx(exec, T * D, 0);
      GradsIn<LayerT, float, TestSpace> const grads(exec, b.sizes);
      auto const saved = dropless.forward(exec, in.param_views(), in.input(), y.view(D));
      dropless.backward(
          exec, in.param_views(), saved, in.input(), in.dy_view(), grads.views(), dx.view(D));
      auto all       = grads.values();
      auto const end = dx.values();
      all.insert(all.end(), end.begin(), end.end());
      return all;
    };
    auto const expected_gradients = gradients(0.5f);
    for (float const held : {nan, inf, -inf}) {
      CAPTURE(held);
      CHECK(same_bits(gradients(held), expected_gradients));
    }
  }
}
