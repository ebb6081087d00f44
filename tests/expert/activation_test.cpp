#include <moe/expert/activation.hpp>

#include "support/expert_check.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

using moe::Array, moe::ClampedGlu, moe::GeGlu, moe::Gelu, moe::Glu, moe::Relu, moe::Silu,
    moe::SquaredRelu, moe::SwiGlu;
using moe::test::formula, moe::test::sigmoid;

namespace {

template <class A, class S>
Array<S, A::arity> arguments(S gate, S up)
{
  Array<S, A::arity> z{};
  z[0] = gate;
  if (A::arity == 2) { z[A::arity - 1] = up; }
  return z;
}

std::vector<double> const points{-30, -8, -6.5, -3, -1.5, -0.7, -0.1, 0.1, 0.7, 1.5, 3, 6.5, 8, 30};

}  // namespace

TEST_CASE_TEMPLATE("an activation is its formula, its backward the central difference",
                   A,
                   Relu,
                   SquaredRelu,
                   Gelu,
                   Silu,
                   SwiGlu,
                   GeGlu,
                   Glu<Relu>,
                   ClampedGlu)
{
  A const a{};
  double const h = 1e-5, d = 1.7;
  for (double const gate : points) {
    for (double const up : points) {
      CAPTURE(gate);
      CAPTURE(up);
      double const expected = formula(a, gate, up);
      double const size     = 1 + std::abs(expected);
      CHECK(std::abs(a(arguments<A>(gate, up)) - expected) < 1e-14 * size);
      CHECK(std::abs(double(a(arguments<A>(float(gate), float(up)))) - expected) < 2e-6 * size);

      auto const grad  = a.backward(arguments<A>(gate, up), d);
      auto const fine  = a.backward(arguments<A>(float(gate), float(up)), float(d));
      double const g[] = {d * (formula(a, gate + h, up) - formula(a, gate - h, up)) / (2 * h),
                          d * (formula(a, gate, up + h) - formula(a, gate, up - h)) / (2 * h)};
      for (int i = 0; i < A::arity; ++i) {
        CHECK(std::abs(grad[i] - g[i]) < 1e-7 * size);
        CHECK(std::abs(double(fine[i]) - grad[i]) < 1e-5 * size);
      }
    }
  }
}

TEST_CASE("GPT-OSS's gate: known values, and other constants")
{
  auto const value = [](ClampedGlu a, double g, double u) { return a(Array<double, 2>{{g, u}}); };
  CHECK(value({}, 1, 0.5) == doctest::Approx(1.268694).epsilon(1e-6));
  CHECK(value({}, 9, -9) == doctest::Approx(-41.999719).epsilon(1e-7));
  CHECK(value({}, -8, 3) == doctest::Approx(-3.9e-5).epsilon(0.01));
  CHECK(value({}, 0, 0) == 0);
  CHECK(value({.alpha = 1, .limit = 2}, 5, 5) == doctest::Approx(3 * 2 * sigmoid(2)));
  CHECK(value({.alpha = 1, .limit = 2}, 5, -5) == doctest::Approx(-1 * 2 * sigmoid(2)));
}

TEST_CASE("GPT-OSS's clamps pass no gradient beyond them, and the gate has no lower one")
{
  ClampedGlu const a;
  auto const grad = [&](double g, double u) { return a.backward(Array<double, 2>{{g, u}}, 1.0); };
  CHECK(grad(7.5, 1)[0] == 0);
  CHECK(grad(6.5, 1)[0] != 0);
  CHECK(grad(-7.5, 1)[0] != 0);
  CHECK(grad(1, 7.5)[1] == 0);
  CHECK(grad(1, -7.5)[1] == 0);
  CHECK(grad(1, 6.5)[1] != 0);
}

TEST_CASE("kinks have the gradient zero, and d = 0 gives none")
{
  Array<double, 1> const zero{{0}};
  CHECK(Relu{}(zero) == 0);
  CHECK(Relu{}.backward(zero, 1.0)[0] == 0);
  CHECK(SquaredRelu{}.backward(zero, 1.0)[0] == 0);
  CHECK(Silu{}.backward(zero, 1.0)[0] == 0.5);
  CHECK(Gelu{}.backward(zero, 1.0)[0] == 0.5);
  CHECK(SwiGlu{}.backward(Array<double, 2>{{2, 3}}, 0.0) == Array<double, 2>{{0, 0}});
}

TEST_CASE_TEMPLATE("far out the values stay finite, and small ones keep their digits",
                   S,
                   float,
                   double)
{
  S const far = 200;
  CHECK(Silu{}(Array<S, 1>{{-far}}) == doctest::Approx(0));
  CHECK(Silu{}(Array<S, 1>{{far}}) == far);
  CHECK(Gelu{}(Array<S, 1>{{-far}}) == 0);
  CHECK(Gelu{}(Array<S, 1>{{far}}) == far);
  CHECK(Silu{}.backward(Array<S, 1>{{-far}}, S{1})[0] == doctest::Approx(0));
  CHECK(Silu{}.backward(Array<S, 1>{{far}}, S{1})[0] == 1);
  CHECK(Gelu{}.backward(Array<S, 1>{{-far}}, S{1})[0] == 0);
  CHECK(std::isfinite(ClampedGlu{}(Array<S, 2>{{-far, far}})));
  CHECK(std::isfinite(ClampedGlu{}.backward(Array<S, 2>{{-far, far}}, S{1})[0]));
  // z Phi(z) at -5 is -5 x 2.866515718791939e-7: no cancellation on the way
  CHECK(double(Gelu{}(Array<S, 1>{{S(-5)}})) ==
        doctest::Approx(-5 * 2.866515718791939e-7).epsilon(sizeof(S) == 8 ? 1e-12 : 1e-5));
}
