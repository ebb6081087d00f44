#include <moe/expert/shared_expert.hpp>

#include "support/expert_check.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <vector>

using moe::BFloat16, moe::Ffn, moe::Half, moe::Host, moe::Id, moe::index_t, moe::SharedExpert,
    moe::sigmoid_gated, moe::SwiGlu, moe::with_bias;
using moe::test::distance, moe::test::minus, moe::test::Numbers, moe::test::numbers_of,
    moe::test::rounded_to, moe::test::Values;

namespace {

using Plain  = SharedExpert<Ffn<SwiGlu>>;
using Biased = SharedExpert<Ffn<SwiGlu, with_bias>>;
using Gated  = SharedExpert<Ffn<SwiGlu, with_bias>, sigmoid_gated>;

struct Problem {
  index_t T, D, F;
  Values params;  // the kernel's, and the gate's row where there is one
  Numbers x, dy;
};

template <class SharedT>
Problem problem(index_t T, index_t D, index_t F)
{
  auto const numbers = [](index_t n, unsigned seed) {
    return moe::test::uniform_numbers(static_cast<std::size_t>(n), seed, -1, 1);
  };
  Problem p{
      T, D, F, {numbers(2 * F * D, 1), numbers(D * F, 2)}, numbers(T * D, 3), numbers(T * D, 4)};
  if (decltype(SharedT::kernel)::has_bias) {
    p.params.push_back(numbers(2 * F, 5));
    p.params.push_back(numbers(D, 6));
  }
  if (SharedT::gated) { p.params.push_back(numbers(D, 7)); }
  return p;
}

// y(t) = F(x_t), times sigmoid(<x_t, g>) where there is a gate
template <class SharedT>
Numbers plain(SharedT const& shared, Problem const& p)
{
  Numbers y;
  auto const D = static_cast<std::size_t>(p.D);
  for (std::size_t t = 0; t < static_cast<std::size_t>(p.T); ++t) {
    double const* const x = p.x.data() + t * D;
    Numbers row           = moe::test::plain_expert(shared.kernel, {p.D, p.F, {1}}, p.params, 0, x);
    double logit          = 0;
    for (std::size_t d = 0; SharedT::gated && d < D; ++d) {
      logit += x[d] * p.params.back()[d];
    }
    for (double const v : row) {
      y.push_back(SharedT::gated ? v * moe::test::sigmoid(logit) : v);
    }
  }
  return y;
}

struct Outcome {
  Numbers addend, dx;
  Values grads;
  friend bool operator==(Outcome const&, Outcome const&) = default;
};
double const before = 0.5;  // what gradients and dx hold, which are added to

template <class T, class G, class SharedT>
Outcome run(Host const& exec, SharedT const& shared, Problem const& p)
{
  using S = moe::accumulator_t<T>;
  using moe::test::as_matrix;
  typename SharedT::Layout const layout{1, p.D, {{p.F}}};
  moe::OwnedParams<SharedT::template Params, T, typename SharedT::Layout, Host> params(exec,
                                                                                       layout);
  moe::OwnedParams<SharedT::template Params, G, typename SharedT::Layout, Host> grads(exec, layout);
  moe::test::set_values(params.view(), p.params);
  moe::test::fill_values(grads.view(), before);
  auto const x_elements  = moe::test::elements_of<T>(p.x),
             dy_elements = moe::test::elements_of<T>(p.dy);
  auto const x = as_matrix(x_elements, p.T, p.D), dy = as_matrix(dy_elements, p.T, p.D);
  std::vector<S> addend(x_elements.size(), S(moe::test::not_a_number)),
      dx(x_elements.size(), S(before));
  auto saved = shared.template make_saved<T>(exec, layout, p.T);
  auto carry = shared.template make_carry<T>(exec, layout, p.T);
  shared.forward(exec, params.const_view(), x, saved, as_matrix(addend, p.T, p.D));
  shared.backward_data(exec, params.const_view(), saved, x, dy, carry, as_matrix(dx, p.T, p.D));
  shared.backward_weights(exec, saved, x, dy, carry, grads.view());
  return {numbers_of(addend.data(), p.T * p.D),
          numbers_of(dx.data(), p.T * p.D),
          moe::test::values_of(grads.view())};
}

Host own_products(int threads)
{
  return Host{{.threads = threads, .products = moe::Products::own}};
}

template <class SharedT>
void check_shared(index_t T, index_t D, index_t F)
{
  CAPTURE(T);
  SharedT const shared{};
  auto p       = problem<SharedT>(T, D, F);
  auto const r = run<double, double>(Host{}, shared, p);
  CHECK(distance(r.addend, plain(shared, p)) < 1e-13);
  if (T == 0) {
    for (auto const& grad : r.grads) {
      CHECK(minus(grad, before) == Numbers(grad.size()));
    }
    return;
  }
  auto const check = [&](Numbers& changed, Numbers const& gradient) {
    auto const was                                    = changed;
    std::function<double(Numbers const&)> const value = [&](Numbers const& v) {
      changed      = v;
      auto const y = plain(shared, p);
      double sum   = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        sum += p.dy[i] * y[i];
      }
      return sum;
    };
    moe::test::check_gradient(value, was, minus(gradient, before));
    changed = was;
  };
  check(p.x, r.dx);
  for (std::size_t i = 0; i < p.params.size(); ++i) {
    CAPTURE(i);
    check(p.params[i], r.grads[i]);
  }
}

}  // namespace

TEST_CASE_TEMPLATE(
    "a shared expert is plain loops, its gradients central differences", X, Plain, Biased, Gated)
{
  check_shared<X>(0, 3, 5);
  check_shared<X>(1, 3, 5);
  check_shared<X>(7, 5, 3);
  check_shared<X>(129, 3, 1);
  check_shared<X>(5, 1, 1);
}

TEST_CASE_TEMPLATE(
    "a shared expert on other element types is the one in double", T, float, Half, BFloat16)
{
  double const half_step = std::is_same_v<T, BFloat16> ? 0x1p-8
                           : std::is_same_v<T, Half>   ? 0x1p-11
                                                       : 0x1p-24;
  auto const check       = [&](auto const& shared, Problem p) {
    p.params         = rounded_to<T>(p.params);
    p.x              = rounded_to<T>(p.x);
    p.dy             = rounded_to<T>(p.dy);
    auto const exact = run<double, double>(Host{}, shared, p);
    auto const wide  = run<T, float>(own_products(2), shared, p);
    auto const r     = run<T, T>(own_products(2), shared, p);
    // as many roundings as in a routed expert, and float's sums
    double const bound = 4 * half_step + 3e-7;
    CHECK(distance(r.addend, exact.addend) < bound);
    CHECK(distance(minus(r.dx, before), minus(exact.dx, before)) < bound);
    CHECK(wide.dx == r.dx);
    for (std::size_t i = 0; i < exact.grads.size(); ++i) {
      CAPTURE(i);
      CHECK(distance(wide.grads[i], exact.grads[i]) < bound);
      // rounded once, at the end (small ones to a multiple of half's smallest)
      CHECK(distance(r.grads[i], wide.grads[i], half_step) < 1e-7);
    }
  };
  check(Plain{}, problem<Plain>(7, 17, 9));
  check(Gated{}, problem<Gated>(40, 33, 5));
}

TEST_CASE("a shared expert: same bits for any threads, and for a token among any others")
{
  Gated const shared;
  auto p         = problem<Gated>(129, 37, 21);
  auto const one = run<float, float>(own_products(1), shared, p);
  for (int const threads : {2, 5}) {
    CHECK(run<float, float>(own_products(threads), shared, p) == one);
  }
  for (index_t const t : {0, 77, 128}) {
    auto const row = [&](Numbers const& v) {
      return Numbers(v.begin() + t * 37, v.begin() + (t + 1) * 37);
    };
    Problem const alone{1, 37, 21, p.params, row(p.x), row(p.dy)};
    auto const r = run<float, float>(own_products(2), shared, alone);
    CHECK(r.addend == row(one.addend));
    CHECK(r.dx == row(one.dx));
  }
}

TEST_CASE("a gate far open or shut: all of the expert, or nothing, and finite gradients")
{
  Gated const shared;
  for (double const sign : {1.0, -1.0}) {
    auto p          = problem<Gated>(3, 5, 3);
    p.x             = Numbers(15, 1.0);
    p.params.back() = Numbers(5, sign * 200);
    auto const r    = run<float, float>(own_products(2), shared, p);
    auto open       = problem<Biased>(3, 5, 3);
    open.x          = p.x;
    auto const full = run<float, float>(own_products(2), Biased{}, open).addend;
    CHECK(r.addend == (sign > 0 ? full : Numbers(15, 0.0)));
    CHECK(minus(r.grads.back(), before) == Numbers(5, 0.0));
  }
}

TEST_CASE("sizes of a shared expert: layout() gives back what carve was given")
{
  moe::OwnedParams<Gated::Params, float, Gated::Layout, Host> params(Host{}, {1, 5, {{7}}});
  auto const layout = params.view().layout();
  CHECK(layout.experts == 1);
  CHECK(layout.hidden == 5);
  CHECK(layout.own == Gated::Sizes{{7}});
  CHECK(params.view().gate.extent(0) == 1);
  moe::OwnedParams<Plain::Params, float, Plain::Layout, Host> ungated(Host{}, {1, 5, {{7}}});
  CHECK(ungated.view().gate.data_handle() == nullptr);
}
