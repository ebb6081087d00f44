#pragma once
// What tests of gates share: each gate as plain loops in double, and a run of the library's.
#include <moe/exec/host/primitives.hpp>
#include <moe/route/cosine_gate.hpp>
#include <moe/route/linear_gate.hpp>
#include <moe/route/low_rank_gate.hpp>
#include <moe/route/tempered_gate.hpp>

#include "support/numbers.hpp"
#include "support/route_check.hpp"

#include <vector>

namespace moe::test {

struct Shape {
  index_t T, D, N;
};

// What a gate computes, as plain loops: parameters and x -> logits.
inline Numbers product_with_transposed(Numbers const& a, Numbers const& b, index_t columns)
{
  auto const k = static_cast<std::size_t>(columns);
  Numbers c;
  for (std::size_t i = 0; i < a.size(); i += k) {
    for (std::size_t j = 0; j < b.size(); j += k) {
      double sum = 0;
      for (std::size_t n = 0; n < k; ++n) {
        sum += a[i + n] * b[j + n];
      }
      c.push_back(sum);
    }
  }
  return c;
}
inline void add_to_rows(Numbers& rows, Numbers const& bias)
{
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i] += bias[i % bias.size()];
  }
}
inline void normalise_rows(Numbers& rows, index_t columns)
{
  auto const n = static_cast<std::size_t>(columns);
  for (std::size_t i = 0; i < rows.size(); i += n) {
    double squares = 0;
    for (std::size_t j = 0; j < n; ++j) {
      squares += rows[i + j] * rows[i + j];
    }
    for (std::size_t j = 0; j < n; ++j) {
      rows[i + j] /= std::max(std::sqrt(squares), 1e-12);
    }
  }
}

inline Numbers plain(LinearGate, Shape s, Values const& p, Numbers const& x, double)
{
  return product_with_transposed(x, p[0], s.D);
}
inline Numbers plain(BiasedLinearGate, Shape s, Values const& p, Numbers const& x, double)
{
  Numbers z = product_with_transposed(x, p[0], s.D);
  add_to_rows(z, p[1]);
  return z;
}
inline Numbers plain(LowRankGate, Shape s, Values const& p, Numbers const& x, double)
{
  auto const rank = static_cast<index_t>(p[0].size()) / s.D;
  return product_with_transposed(product_with_transposed(x, p[0], s.D), p[1], rank);
}
inline Numbers plain(CosineGate, Shape s, Values const& p, Numbers const& x, double)
{
  auto const columns = static_cast<index_t>(p[1].size());
  Numbers projected  = product_with_transposed(x, p[0], s.D);
  add_to_rows(projected, p[1]);
  normalise_rows(projected, columns);
  Numbers similarity = p[2];
  normalise_rows(similarity, columns);
  Numbers z = product_with_transposed(projected, similarity, columns);
  for (double& v : z) {
    v *= std::exp(std::min(p[3][0], std::log(100.0)));
  }
  return z;
}
template <class GateT>
Numbers plain(TemperedGate<GateT> g, Shape s, Values const& p, Numbers const& x, double temperature)
{
  Numbers z = plain(g.gate, s, p, x, temperature);
  for (double& v : z) {
    v /= temperature;
  }
  return z;
}

struct Problem {
  Shape shape;
  Values params;
  Numbers x, d_logits;
  double temperature = 1;
};

template <class GateT>
Problem problem(typename GateT::Sizes const& own, Shape s, double temperature)
{
  Host const exec{{.threads = 1}};
  OwnedParams<GateT::template Params, double, GateLayout<typename GateT::Sizes>, Host> params(
      exec, {s.N, s.D, own});
  Problem p{s, values_of(params.view()), {}, {}, temperature};
  unsigned seed = 1;
  for (auto& numbers : p.params) {
    numbers = uniform_numbers(numbers.size(), seed++, -1, 1);
  }
  p.x        = uniform_numbers(static_cast<std::size_t>(s.T * s.D), 20, -1, 1);
  p.d_logits = uniform_numbers(static_cast<std::size_t>(s.T * s.N), 21, -1, 1);
  return p;
}
template <class T>
Problem rounded(Problem p)
{
  p.params   = rounded_to<T>(p.params);
  p.x        = rounded_to<T>(p.x);
  p.d_logits = rounded_to<float>(p.d_logits);
  return p;
}

struct Outcome {
  Numbers logits, dx;
  Values grads;
};
inline constexpr double before = 0.5;  // what gradients hold before the first pass

// One forward pass and `passes` backward ones, on elements T with gradients in G.
template <class T, class G, class GateT>
Outcome run(Host const& exec,
            GateT const& gate,
            typename GateT::Sizes const& own,
            Problem const& p,
            int passes = 1)
{
  using S = accumulator_t<T>;
  GateLayout<typename GateT::Sizes> const layout{p.shape.N, p.shape.D, own};
  OwnedParams<GateT::template Params, T, decltype(layout), Host> params(exec, layout);
  OwnedParams<GateT::template Params, G, decltype(layout), Host> grads(exec, layout);
  set_values(params.view(), p.params);
  fill_values(grads.view(), before);
  StepState state{};
  state.temperature = p.temperature;
  View<StepState const, 1, Host> const step{&state, {{1}}};
  auto const x_elements        = elements_of<T>(p.x);
  auto const d_logits_elements = elements_of<S>(p.d_logits);
  auto const x                 = as_matrix(x_elements, p.shape.T, p.shape.D);
  auto const d_logits          = as_matrix(d_logits_elements, p.shape.T, p.shape.N);
  std::vector<S> logits(p.d_logits.size(), S(not_a_number));
  std::vector<S> dx(p.x.size(), S(not_a_number));

  auto saved = gate.template make_saved<T>(exec, layout, p.shape.T);
  auto carry = gate.template make_carry<T>(exec, layout, p.shape.T);
  gate.forward(exec, params.const_view(), step, x, saved, as_matrix(logits, p.shape.T, p.shape.N));
  for (int pass = 0; pass < passes; ++pass) {
    gate.backward_data(exec,
                       params.const_view(),
                       saved,
                       step,
                       x,
                       d_logits,
                       carry,
                       as_matrix(dx, p.shape.T, p.shape.D));
    gate.backward_weights(exec, params.const_view(), saved, step, x, d_logits, carry, grads.view());
  }
  return {numbers_of(logits.data(), p.shape.T * p.shape.N),
          numbers_of(dx.data(), p.shape.T * p.shape.D),
          values_of(grads.view())};
}

inline double weighted_sum(Numbers const& z, Numbers const& u)
{
  double sum = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    sum += z[i] * u[i];
  }
  return sum;
}

}  // namespace moe::test
