// Where the cosine gate is more than its formula: the bound of its scale, directions of nothing,
// the values it starts from; and its row maths on a team of several lanes.
#include <moe/core/initialize.hpp>

#include "support/gate_check.hpp"
#include "support/lane_team.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using moe::CosineGate, moe::Host, moe::index_t;
using moe::test::before, moe::test::distance, moe::test::minus, moe::test::Numbers,
    moe::test::plain, moe::test::problem, moe::test::run, moe::test::Shape, moe::test::Values,
    moe::test::weighted_sum;

TEST_CASE("the scale grows with log_scale up to 100; above, log_scale has no gradient")
{
  Host const exec;
  CosineGate const gate;
  auto p            = problem<CosineGate>({5}, {6, 7, 4}, 1);
  p.params[3][0]    = 0;
  auto const cosine = run<double, double>(exec, gate, {5}, p).logits;
  for (double const z : cosine) {
    CHECK(std::abs(z) <= 1 + 1e-15);
  }
  double const bound = std::log(100.0);
  for (double const tau : {-3.0, 0.5, bound - 1e-3, bound + 1e-3, 9.0, 800.0}) {
    CAPTURE(tau);
    p.params[3][0]     = tau;
    auto const r       = run<double, double>(exec, gate, {5}, p);
    double const scale = std::min(std::exp(tau), 100.0);
    double product     = 0;
    for (std::size_t i = 0; i < cosine.size(); ++i) {
      CHECK(r.logits[i] == doctest::Approx(scale * cosine[i]).epsilon(1e-13));
      product += p.d_logits[i] * scale * cosine[i];
    }
    double const d_tau = r.grads[3][0] - before;
    CHECK(d_tau == doctest::Approx(tau > bound ? 0 : product).epsilon(1e-10));
    moe::test::check_gradient(
        [&](Numbers const& x) {
          return weighted_sum(plain(gate, p.shape, p.params, x, 1), p.d_logits);
        },
        p.x,
        r.dx);
  }
}

TEST_CASE("a vector shorter than 1e-12 is divided by 1e-12, in the gradient too")
{
  Host const exec;
  CosineGate const gate;
  auto p      = problem<CosineGate>({5}, {2, 3, 4}, 1);
  p.params[1] = Numbers(5, 0.0);
  for (std::size_t i = 0; i < 3; ++i) {  // token 0, whose projection is below 1e-12
    p.x[i] *= 2e-13;
  }
  for (std::size_t i = 5; i < 10; ++i) {  // expert 1
    p.params[2][i] *= 2e-13;
  }
  auto const r = run<double, double>(exec, gate, {5}, p);
  CHECK(distance(r.logits, plain(gate, p.shape, p.params, p.x, 1)) < 1e-13);

  // Down there it is linear, so a difference is exact.
  double const h    = 1e-14;
  auto const change = [&](Numbers& at, std::size_t i) {
    double const was  = at[i];
    at[i]             = was + h;
    double const up   = weighted_sum(plain(gate, p.shape, p.params, p.x, 1), p.d_logits);
    at[i]             = was - h;
    double const down = weighted_sum(plain(gate, p.shape, p.params, p.x, 1), p.d_logits);
    at[i]             = was;
    return (up - down) / (2 * h);
  };
  for (std::size_t i = 0; i < 3; ++i) {
    double const expected = change(p.x, i);
    CHECK(std::abs(expected) > 1e9);
    CHECK(r.dx[i] == doctest::Approx(expected).epsilon(1e-9));
  }
  for (std::size_t i = 5; i < 10; ++i) {
    CHECK(r.grads[2][i] == doctest::Approx(change(p.params[2], i)).epsilon(1e-9));
  }
}

TEST_CASE("a token of zeros has the logits of the bias; without one, zeros and finite gradients")
{
  Host const exec;
  auto p = problem<CosineGate>({5}, {1, 3, 4}, 1);
  p.x    = Numbers(3, 0.0);
  CHECK(run<float, float>(exec, CosineGate{}, {5}, p).logits != Numbers(4, 0.0));
  p.params[1]  = Numbers(5, 0.0);
  auto const r = run<float, float>(exec, CosineGate{}, {5}, p);
  CHECK(r.logits == Numbers(4, 0.0));
  for (double const d : r.dx) {
    CHECK(std::isfinite(d));
  }
  for (auto const& grad : r.grads) {
    for (double const d : grad) {
      CHECK(std::isfinite(d));
    }
  }
}

TEST_CASE("it starts from Tutel's values: scale 2, similarities of deviation 0.01, 256 columns")
{
  Host const exec;
  moe::GateLayout<CosineGate::Sizes> const layout{64, 32, {}};
  moe::OwnedParams<CosineGate::Params, double, decltype(layout), Host> params(exec, layout);
  moe::initialize(exec, params.view(), 3);
  auto const values = moe::test::values_of(params.view());
  CHECK(values[0].size() == 256 * 32);
  CHECK(values[1] == Numbers(256, 0.0));
  CHECK(values[3][0] == doctest::Approx(std::log(2.0)).epsilon(1e-15));
  double squares = 0;
  for (double const s : values[2]) {
    squares += s * s;
  }
  CHECK(squares / (64 * 256) == doctest::Approx(1e-4).epsilon(0.05));
}

TEST_CASE("its row maths on five lanes is that on one")
{
  index_t const T = 3, N = 2, M = 13;
  Numbers const bias = moe::test::uniform_numbers(13, 1, -1, 1);
  Numbers const sim  = moe::test::uniform_numbers(26, 2, -1, 1);
  Numbers const tau{0.4};
  auto const as_list   = [](Numbers const& v) { return moe::test::as_list(v); };
  auto const as_matrix = [](Numbers& v, index_t r, index_t c) {
    return moe::test::as_matrix(v, r, c);
  };
  struct State {
    Numbers unit, inverse, scaled, expert_inverse, d, d_tau, d_scaled, grad;
  };
  State const start{moe::test::uniform_numbers(39, 3, -1, 1),
                    Numbers(3),
                    Numbers(26),
                    Numbers(2),
                    moe::test::uniform_numbers(39, 4, -1, 1),
                    Numbers(3),
                    moe::test::uniform_numbers(26, 5, -1, 1),
                    Numbers(26, 0.5)};
  auto const with_team = [&](auto const& run_lanes) {
    State s               = start;
    auto const similarity = moe::test::as_matrix(sim, N, M);
    for (index_t t = 0; t < T; ++t) {
      moe::detail::CosineTokenRow<double, Host> const forward{
          as_list(bias), as_matrix(s.unit, T, M), moe::test::as_list(s.inverse)};
      run_lanes([&](auto team) { forward(team, t); });
      moe::detail::CosineTokenBackwardRow<double, Host> const backward{as_matrix(s.unit, T, M),
                                                                       as_list(s.inverse),
                                                                       as_list(tau),
                                                                       as_matrix(s.d, T, M),
                                                                       as_matrix(s.d_tau, T, 1)};
      run_lanes([&](auto team) { backward(team, t); });
    }
    for (index_t e = 0; e < N; ++e) {
      moe::detail::CosineExpertRow<double, Host> const forward{
          similarity,
          as_list(tau),
          as_matrix(s.scaled, N, M),
          moe::test::as_list(s.expert_inverse)};
      run_lanes([&](auto team) { forward(team, e); });
      moe::detail::CosineExpertBackwardRow<double, double, Host> const backward{
          similarity,
          as_list(tau),
          as_list(s.expert_inverse),
          as_matrix(s.d_scaled, N, M),
          as_matrix(s.grad, N, M)};
      run_lanes([&](auto team) { backward(team, e); });
    }
    return s;
  };
  auto const one  = with_team([](auto const& f) { f(moe::SerialTeam{}); });
  auto const five = with_team([](auto const& f) { moe::test::Lanes(5).run(f); });
  CHECK(distance(five.unit, one.unit) < 1e-14);
  CHECK(distance(five.inverse, one.inverse) < 1e-14);
  CHECK(distance(five.scaled, one.scaled) < 1e-14);
  CHECK(distance(five.expert_inverse, one.expert_inverse) < 1e-14);
  CHECK(distance(five.d, one.d) < 1e-14);
  CHECK(distance(five.d_tau, one.d_tau) < 1e-14);
  CHECK(distance(five.grad, one.grad) < 1e-14);
}
