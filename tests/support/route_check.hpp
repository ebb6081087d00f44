#pragma once
// What tests of routers and losses share: rows of logits, and gradients by central differences.
#include <moe/exec/host.hpp>
#include <moe/route/router.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace moe::test {

inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
inline constexpr double infinite     = std::numeric_limits<double>::infinity();

template <class S>
Row<S const> as_row(std::vector<S> const& v)
{
  return {v.data(), static_cast<index_t>(v.size())};
}
template <class S>
Row<S> as_row(std::vector<S>& v)
{
  return {v.data(), static_cast<index_t>(v.size())};
}
template <class T>
View<T const, 1, Host> as_list(std::vector<T> const& v)
{
  return {v.data(), {{static_cast<index_t>(v.size())}}};
}
template <class T>
View<T, 1, Host> as_list(std::vector<T>& v)
{
  return {v.data(), {{static_cast<index_t>(v.size())}}};
}
template <class T>
View<T const, 2, Host> as_matrix(std::vector<T> const& v, index_t rows, index_t columns)
{
  return {v.data(), {{rows, columns}}};
}
template <class T>
View<T, 2, Host> as_matrix(std::vector<T>& v, index_t rows, index_t columns)
{
  return {v.data(), {{rows, columns}}};
}
template <class T>
std::vector<T> to_vector(View<T const, 1, Host> v)
{
  return {v.data_handle(), v.data_handle() + v.size()};
}

// n numbers in random order, neighbours in size `gap` apart (but for up to a fifth of it), so that
// a small change of one does not change which are the largest.
inline std::vector<double> spaced_logits(std::size_t n, unsigned seed, double gap = 0.1)
{
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> jitter(-0.1 * gap, 0.1 * gap);
  std::vector<double> z(n);
  for (std::size_t i = 0; i < n; ++i) {
    z[i] = gap * (static_cast<double>(i) - 0.5 * static_cast<double>(n)) + jitter(random);
  }
  std::shuffle(z.begin(), z.end(), random);
  return z;
}

inline std::vector<double> uniform_numbers(std::size_t n, unsigned seed, double lo, double hi)
{
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> number(lo, hi);
  std::vector<double> v(n);
  std::generate(v.begin(), v.end(), [&] { return number(random); });
  return v;
}

// softmax of finite numbers, written as in a textbook
inline std::vector<double> softmax_of(std::vector<double> const& z)
{
  double const largest = *std::max_element(z.begin(), z.end());
  std::vector<double> p(z.size());
  std::transform(z.begin(), z.end(), p.begin(), [&](double x) { return std::exp(x - largest); });
  double const sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) {
    x /= sum;
  }
  return p;
}

// Every element of `gradient` within a relative 1e-6 of the central difference of `value` over x
// (of fourth order, so that its own error is far smaller). Elements below 1e-4 of the largest, or
// lost in the rounding of `value`, are compared absolutely.
template <class ValueF>
void check_gradient(ValueF const& value, std::vector<double> x, std::vector<double> const& gradient)
{
  double const h = 2e-4;
  REQUIRE(gradient.size() == x.size());
  double largest = 0;
  for (double const g : gradient) {
    largest = std::max(largest, std::abs(g));
  }
  CHECK(largest > 1e-9);  // else there is nothing to compare
  double const rounding = 1e-15 / h * (1 + std::abs(value(x)));
  for (std::size_t i = 0; i < x.size(); ++i) {
    CAPTURE(i);
    double const at   = x[i];
    auto const change = [&](double step) {
      x[i]            = at + step;
      double const up = value(x);
      x[i]            = at - step;
      return up - value(x);
    };
    double const expected = (8 * change(h) - change(2 * h)) / (12 * h);
    x[i]                  = at;
    CHECK(std::abs(gradient[i] - expected) <=
          rounding + 1e-6 * std::max({std::abs(gradient[i]), std::abs(expected), 1e-4 * largest}));
  }
}

// Every router passes this: route_backward adds the gradient of sum_k u_k w_k, ids held.
template <RowRouter RouterT>
void check_route_gradient(RouterT const& router,
                          std::vector<double> const& logits,
                          RowContext const& ctx = {})
{
  constexpr int K = RouterT::top_k;
  SerialTeam const team;
  Array<double, K> u{};
  for (int k = 0; k < K; ++k) {
    u[k] = std::cos(1.7 * k) + 0.3;
  }
  auto const choice = router.route(team, ctx, as_row(logits));
  auto const value  = [&](std::vector<double> const& z) {
    auto const c = router.route(team, ctx, as_row(z));
    double sum   = 0;
    for (int k = 0; k < K; ++k) {  // a biased choice may come in another order
      auto const at = std::find(choice.expert.begin(), choice.expert.end(), c.expert[k]);
      REQUIRE(at != choice.expert.end());
      sum += u[at - choice.expert.begin()] * c.weight[k];
    }
    return sum;
  };
  double const before = 0.25;  // which stays below what is added
  std::vector<double> d(logits.size(), before);
  router.route_backward(team, ctx, as_row(logits), choice, u, as_row(d));
  for (double& x : d) {
    x -= before;
  }
  check_gradient(value, logits, d);
}

}  // namespace moe::test
