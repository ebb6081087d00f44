#pragma once
// What tests of experts share: activations and the FFN as plain loops in double, and a run of the
// library's over rows that may be gathered and slots that may be padded.
#include <moe/exec/host/primitives.hpp>
#include <moe/expert/ffn.hpp>

#include "support/numbers.hpp"
#include "support/route_check.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace moe::test {

// The formulas, in their textbook form; `up` only where there are two arguments.
inline double sigmoid(double z)
{
  return 1 / (1 + std::exp(-z));
}
inline double normal_cdf(double z)
{
  return 0.5 * (1 + std::erf(z / std::sqrt(2.0)));
}
inline double formula(Relu, double z, double)
{
  return std::max(z, 0.0);
}
inline double formula(SquaredRelu, double z, double)
{
  return std::pow(std::max(z, 0.0), 2);
}
inline double formula(Gelu, double z, double)
{
  return z * normal_cdf(z);
}
inline double formula(Silu, double z, double)
{
  return z * sigmoid(z);
}
template <class A>
double formula(Glu<A> a, double g, double u)
{
  return formula(a.gate, g, 0) * u;
}
inline double formula(ClampedGlu a, double gate, double up)
{
  double const g = std::min(gate, a.limit);
  double const u = std::max(-a.limit, std::min(up, a.limit));
  return g * sigmoid(a.alpha * g) * (u + 1);
}

// R rows in groups of `counts`, each followed by `gap` slots that belong to nobody.
struct ExpertShape {
  index_t D, F;
  std::vector<Id> counts;
  Id gap = 0;

  [[nodiscard]] index_t experts() const { return static_cast<index_t>(counts.size()); }
  [[nodiscard]] std::vector<Id> offsets() const
  {
    std::vector<Id> out{0};
    for (Id const n : counts) {
      out.push_back(out.back() + n + gap);
    }
    return out;
  }
  [[nodiscard]] index_t rows() const { return offsets().back(); }
  // of every slot; -1: nobody's
  [[nodiscard]] std::vector<Id> owners() const
  {
    std::vector<Id> out;
    for (std::size_t e = 0; e < counts.size(); ++e) {
      out.insert(out.end(), static_cast<std::size_t>(counts[e]), static_cast<Id>(e));
      out.insert(out.end(), static_cast<std::size_t>(gap), Id{-1});
    }
    return out;
  }
};

struct ExpertProblem {
  ExpertShape shape;
  Values params;  // w_in, w_out, and b_in, b_out where there are biases
  Numbers x, dy;  // base rows, or rows
  std::vector<Id> x_index, dy_index;
  Numbers weight;  // (R)

  [[nodiscard]] Numbers rows_of(Numbers const& base, std::vector<Id> const& index) const
  {
    if (index.empty()) { return base; }
    Numbers out;
    for (Id const i : index) {
      for (index_t d = 0; d < shape.D; ++d) {
        out.push_back(i < 0 ? 0 : base[static_cast<std::size_t>(i * shape.D + d)]);
      }
    }
    return out;
  }
  // The same rows, as they lie.
  [[nodiscard]] ExpertProblem expanded() const
  {
    return {shape, params, rows_of(x, x_index), rows_of(dy, dy_index), {}, {}, weight};
  }
};

// Row r of expert e through F_e, unweighted; also its pre-activations. x (D) -> out (D)
template <class A, class B>
Numbers plain_expert(Ffn<A, B> const& ffn,
                     ExpertShape const& s,
                     Values const& p,
                     std::size_t e,
                     double const* x,
                     Numbers* pre_activations = nullptr)
{
  auto const D = static_cast<std::size_t>(s.D), F = static_cast<std::size_t>(s.F);
  constexpr std::size_t arity = A::arity;
  Numbers z(arity * F), out(D);
  for (std::size_t i = 0; i < arity * F; ++i) {
    z[i] = B::has_bias ? p[2][e * arity * F + i] : 0;
    for (std::size_t d = 0; d < D; ++d) {
      z[i] += p[0][(e * arity * F + i) * D + d] * x[d];
    }
  }
  for (std::size_t d = 0; d < D; ++d) {
    out[d] = B::has_bias ? p[3][e * D + d] : 0;
    for (std::size_t f = 0; f < F; ++f) {
      out[d] += p[1][(e * D + d) * F + f] * formula(ffn.activation, z[f], z[(arity - 1) * F + f]);
    }
  }
  if (pre_activations != nullptr) {
    pre_activations->insert(pre_activations->end(), z.begin(), z.end());
  }
  return out;
}

// All rows of an expanded problem; 0 in slots that belong to nobody.
template <class A, class B>
Numbers plain_experts(Ffn<A, B> const& ffn,
                      ExpertProblem const& p,
                      Numbers* pre_activations = nullptr)
{
  Numbers out;
  auto const owners = p.shape.owners();
  auto const D      = static_cast<std::size_t>(p.shape.D);
  for (std::size_t r = 0; r < owners.size(); ++r) {
    Numbers row(D);
    if (owners[r] >= 0) {
      row = plain_expert(ffn,
                         p.shape,
                         p.params,
                         static_cast<std::size_t>(owners[r]),
                         p.x.data() + r * D,
                         pre_activations);
    }
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

// Numbers in [-1, 1] whose pre-activations stay away from 0 and +-limit, where activations have
// kinks.
template <class A, class B>
ExpertProblem expert_problem(Ffn<A, B> const& ffn, ExpertShape const& s, double limit = 7)
{
  auto const numbers = [](index_t n, unsigned seed) {
    return uniform_numbers(static_cast<std::size_t>(n), seed, -1, 1);
  };
  index_t const L = s.experts(), R = s.rows(), H = A::arity * s.F;
  for (unsigned seed = 0;; seed += 10) {
    ExpertProblem p{s,
                    {numbers(L * H * s.D, seed + 1), numbers(L * s.D * s.F, seed + 2)},
                    numbers(R * s.D, seed + 3),
                    numbers(R * s.D, seed + 4),
                    {},
                    {},
                    numbers(R, seed + 5)};
    if (B::has_bias) {
      p.params.push_back(numbers(L * H, seed + 6));
      p.params.push_back(numbers(L * s.D, seed + 7));
    }
    Numbers z;
    plain_experts(ffn, p, &z);
    bool const kink = std::any_of(z.begin(), z.end(), [&](double v) {
      return std::abs(v) < 1e-3 || std::abs(std::abs(v) - limit) < 1e-3;
    });
    if (!kink) { return p; }
  }
}

template <class T>
ExpertProblem rounded(ExpertProblem p)
{
  p.params = rounded_to<T>(p.params);
  p.x      = rounded_to<T>(p.x);
  p.dy     = rounded_to<T>(p.dy);
  p.weight = rounded_to<float>(p.weight);
  return p;
}

struct ExpertOutcome {
  Numbers inferred, out, dx, d_weight;
  Values grads;
  friend bool operator==(ExpertOutcome const&, ExpertOutcome const&) = default;
};

inline constexpr double untouched = -77;  // what outputs hold before
struct ExpertCalls {
  bool one_per_expert = false;  // but for backward_weights
  double before       = 0;      // what gradients hold
  int passes          = 1;      // of backward
};

template <class T>
struct RowsOf {
  std::vector<T> base;
  std::vector<Id> index;
  index_t D;
  [[nodiscard]] IndexedRows<T, Host> view() const
  {
    IndexedRows<T, Host> rows{as_matrix(base, static_cast<index_t>(base.size()) / D, D), {}};
    if (!index.empty()) { rows.index = as_list(index); }
    return rows;
  }
};

// infer, forward, backward_data and backward_weights on elements T with gradients in G.
template <class T, class G, class KernelT>
ExpertOutcome run_experts(Host const& exec,
                          KernelT const& kernel,
                          ExpertProblem const& p,
                          ExpertCalls const& calls = {})
{
  using S            = accumulator_t<T>;
  auto const& s      = p.shape;
  index_t const R    = s.rows();
  auto const Ds      = static_cast<std::size_t>(R * s.D);
  auto const rows    = static_cast<std::size_t>(R);
  auto const offsets = s.offsets();
  using Layout       = ExpertLayout<typename KernelT::Sizes>;
  Layout const layout{s.experts(), s.D, {s.F}};
  RowGroups<Host> groups{as_list(offsets), {}, R, 0, static_cast<Id>(s.experts())};
  if (s.gap > 0) { groups.counts = as_list(s.counts); }
  OwnedParams<KernelT::template Params, T, Layout, Host> params(exec, layout);
  OwnedParams<KernelT::template Params, G, Layout, Host> grads(exec, layout);
  set_values(params.view(), p.params);
  fill_values(grads.view(), calls.before);
  RowsOf<T> const x_rows{elements_of<T>(p.x), p.x_index, s.D};
  RowsOf<T> const dy_rows{elements_of<T>(p.dy), p.dy_index, s.D};
  auto const x = x_rows.view(), dy = dy_rows.view();
  auto const weight_elements = elements_of<S>(p.weight);
  auto const weight          = as_list(weight_elements);

  std::vector<T> inferred(Ds, to_element<T>(untouched)), out = inferred, dx = inferred;
  std::vector<S> d_weight(rows, S(untouched));
  auto saved    = kernel.template make_saved<T>(exec, layout, R);
  auto carry    = kernel.template make_carry<T>(exec, layout, R);
  auto scratch  = kernel.template make_scratch<T>(exec, layout, R, Pass::infer);
  auto scratch2 = kernel.template make_scratch<T>(exec, layout, R, Pass::forward);

  auto const each_call = [&](auto const& call) {
    if (!calls.one_per_expert) { return call(groups); }
    for (Id e = groups.last; e-- > 0;) {
      call(groups.only(e, e + 1));
    }
  };
  auto const weights = params.const_view();
  each_call([&](RowGroups<Host> const& g) {
    kernel.infer(exec, weights, g, x, scratch, as_matrix(inferred, R, s.D));
    kernel.forward(exec, weights, g, x, saved, scratch2, as_matrix(out, R, s.D));
  });
  for (int pass = 0; pass < calls.passes; ++pass) {
    each_call([&](RowGroups<Host> const& g) {
      kernel.backward_data(
          exec, weights, saved, g, x, dy, weight, carry, as_matrix(dx, R, s.D), as_list(d_weight));
    });
    kernel.backward_weights(exec, saved, groups, x, dy, weight, carry, grads.view());
  }
  return {numbers_of(inferred.data(), R * s.D),
          numbers_of(out.data(), R * s.D),
          numbers_of(dx.data(), R * s.D),
          numbers_of(d_weight.data(), R),
          values_of(grads.view())};
}

// Rows of `v` (R, columns) that belong to an expert, or to none.
inline Numbers rows_where(ExpertShape const& s, Numbers const& v, index_t columns, bool owned)
{
  Numbers out;
  auto const owners = s.owners();
  for (std::size_t r = 0; r < owners.size(); ++r) {
    if ((owners[r] >= 0) != owned) { continue; }
    auto const from = v.begin() + static_cast<index_t>(r) * columns;
    out.insert(out.end(), from, from + columns);
  }
  return out;
}

}  // namespace moe::test
