#include <moe/route/no_gate.hpp>

#include "support/gate_check.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using moe::BFloat16, moe::Half, moe::Host, moe::index_t, moe::StepState, moe::Tensor, moe::View;
using moe::BiasedLinearGate, moe::CosineGate, moe::LinearGate, moe::LowRankGate, moe::NoGate,
    moe::TemperedGate;
using moe::test::before, moe::test::distance, moe::test::largest_of, moe::test::minus,
    moe::test::Numbers, moe::test::plain, moe::test::problem, moe::test::rounded, moe::test::run,
    moe::test::Shape, moe::test::Values, moe::test::weighted_sum;

namespace {

// f(gate, its sizes, temperature), for gates that together run all that there is
template <class F>
void for_one_of_each(F const& f)
{
  f("biased", BiasedLinearGate{}, BiasedLinearGate::Sizes{}, 1.0);
  f("low rank", LowRankGate{}, LowRankGate::Sizes{3}, 1.0);
  f("tempered cosine", TemperedGate{CosineGate{}}, CosineGate::Sizes{5}, 2.5);
}
template <class F>
void for_each_gate(F const& f)
{
  for_one_of_each(f);
  f("linear", LinearGate{}, LinearGate::Sizes{}, 1.0);
  f("cosine", CosineGate{}, CosineGate::Sizes{5}, 1.0);
  f("tempered linear", TemperedGate{LinearGate{}}, LinearGate::Sizes{}, 0.7);
}

Host own_products(int threads)
{
  return Host{{.threads = threads, .products = moe::Products::own}};
}

}  // namespace

TEST_CASE("every gate: logits are those of plain loops, gradients those of central differences")
{
  Host const exec;
  for_each_gate(
      [&]<class GateT>(std::string const& name, GateT gate, auto own, double temperature) {
        for (Shape const s : {Shape{0, 7, 9}, {1, 7, 9}, {7, 13, 5}, {129, 3, 5}, {3, 1, 1}}) {
          CAPTURE(name);
          CAPTURE(s.T);
          auto const p = problem<GateT>(own, s, temperature);
          auto const r = run<double, double>(exec, gate, own, p);
          CHECK(distance(r.logits, plain(gate, s, p.params, p.x, temperature)) < 1e-13);
          if (s.T == 0) {
            for (auto const& grad : r.grads) {
              CHECK(minus(grad, before) == Numbers(grad.size()));
            }
            continue;
          }
          if (s.D == 1) { continue; }  // directions in one dimension have no gradient
          moe::test::check_gradient(
              [&](Numbers const& x) {
                return weighted_sum(plain(gate, s, p.params, x, temperature), p.d_logits);
              },
              p.x,
              r.dx);
          for (std::size_t i = 0; i < p.params.size(); ++i) {
            CAPTURE(i);
            auto const value = [&](Numbers const& changed) {
              Values params = p.params;
              params[i]     = changed;
              return weighted_sum(plain(gate, s, params, p.x, temperature), p.d_logits);
            };
            moe::test::check_gradient(value, p.params[i], minus(r.grads[i], before));
          }
        }
      });
}

// Sums are taken in float, so logits and dx are within float's rounding of sums of some dozens of
// products; a gradient is rounded once more, to its own type.
TEST_CASE_TEMPLATE("gates on other element types are those in double", T, float, Half, BFloat16)
{
  Host const exec;
  double const half_step = std::is_same_v<T, BFloat16> ? 0x1p-8
                           : std::is_same_v<T, Half>   ? 0x1p-11
                                                       : 0x1p-24;
  for_one_of_each(
      [&]<class GateT>(std::string const& name, GateT gate, auto own, double temperature) {
        for (Shape const s : {Shape{1, 7, 9}, {7, 33, 17}, {129, 7, 3}}) {
          CAPTURE(name);
          CAPTURE(s.T);
          auto const p     = rounded<T>(problem<GateT>(own, s, temperature));
          auto const exact = run<double, double>(exec, gate, own, p);
          auto const r     = run<T, T>(exec, gate, own, p);
          auto const wide  = run<T, float>(exec, gate, own, p);
          CHECK(distance(r.logits, exact.logits) < 2e-6);
          CHECK(distance(r.dx, exact.dx) < 5e-6);
          for (std::size_t i = 0; i < exact.grads.size(); ++i) {
            CAPTURE(i);
            CHECK(distance(r.grads[i], exact.grads[i], half_step) < 5e-6);
            CHECK(distance(wide.grads[i], exact.grads[i]) < 5e-6);
          }
        }
      });
}

TEST_CASE("every gate adds to the gradients of parameters, and overwrites dx")
{
  Host const exec = own_products(2);
  for_each_gate(
      [&]<class GateT>(std::string const& name, GateT gate, auto own, double temperature) {
        CAPTURE(name);
        auto const p     = problem<GateT>(own, {7, 5, 3}, temperature);
        auto const once  = run<double, double>(exec, gate, own, p, 1);
        auto const twice = run<double, double>(exec, gate, own, p, 2);
        CHECK(once.dx == twice.dx);
        for (std::size_t i = 0; i < once.grads.size(); ++i) {
          auto doubled = minus(once.grads[i], before);
          for (double& x : doubled) {
            x *= 2;
          }
          CHECK(largest_of(doubled) > 0.01);
          CHECK(distance(minus(twice.grads[i], before), doubled) < 1e-14);
        }
      });
}

TEST_CASE("gates: same bits for any number of threads, and for a token among any others")
{
  for_one_of_each(
      [&]<class GateT>(std::string const& name, GateT gate, auto own, double temperature) {
        CAPTURE(name);
        auto const p   = rounded<float>(problem<GateT>(own, {129, 37, 19}, temperature));
        auto const one = run<float, float>(own_products(1), gate, own, p);
        for (int threads : {2, 5}) {
          auto const many = run<float, float>(own_products(threads), gate, own, p);
          CHECK(many.logits == one.logits);
          CHECK(many.dx == one.dx);
          CHECK(many.grads == one.grads);
        }
        for (index_t const t : {0, 77, 128}) {
          auto alone     = p;
          auto const cut = [&](Numbers const& v, index_t n) {
            return Numbers(v.begin() + t * n, v.begin() + (t + 1) * n);
          };
          alone.shape.T  = 1;
          alone.x        = cut(p.x, p.shape.D);
          alone.d_logits = cut(p.d_logits, p.shape.N);
          auto const r   = run<float, float>(own_products(2), gate, own, alone);
          CHECK(r.logits == cut(one.logits, p.shape.N));
          CHECK(r.dx == cut(one.dx, p.shape.D));
        }
      });
}

TEST_CASE("the temperature is read in forward from the state, and backward is that of its forward")
{
  Host const exec = own_products(1);
  auto const p    = problem<LinearGate>({}, {3, 5, 7}, 1);
  auto const base = run<double, double>(exec, LinearGate{}, {}, p);
  TemperedGate<LinearGate> const gate;
  moe::GateLayout<LinearGate::Sizes> const layout{7, 5, {}};
  moe::OwnedParams<LinearGate::Params, double, decltype(layout), Host> params(exec, layout);
  moe::test::set_values(params.view(), p.params);
  auto const x = moe::test::as_matrix(p.x, 3, 5), d_logits = moe::test::as_matrix(p.d_logits, 3, 7);
  Numbers logits(21), dx(15);
  auto saved         = gate.make_saved<double>(exec, layout, 3);
  auto carry         = gate.make_carry<double>(exec, layout, 3);
  auto const forward = [&](View<StepState const, 1, Host> step) {
    gate.forward(exec, params.const_view(), step, x, saved, moe::test::as_matrix(logits, 3, 7));
    return logits;
  };
  StepState state{};
  View<StepState const, 1, Host> const step{&state, {{1}}};
  CHECK(forward({}) == base.logits);
  CHECK(forward(step) == base.logits);
  for (double const temperature : {0.25, 4.0}) {  // powers of two: exact
    state.temperature = temperature;
    auto const z      = forward(step);
    state.temperature = 3;  // the next step's
    gate.backward_data(
        exec, params.const_view(), saved, step, x, d_logits, carry, moe::test::as_matrix(dx, 3, 5));
    for (std::size_t i = 0; i < z.size(); ++i) {
      CHECK(z[i] == base.logits[i] / temperature);
    }
    for (std::size_t i = 0; i < dx.size(); ++i) {
      CHECK(dx[i] == base.dx[i] / temperature);
    }
  }
}

TEST_CASE("no gate has no parameters and gives x no gradient")
{
  Host const exec;
  moe::OwnedParams<NoGate::Params, float, moe::GateLayout<NoGate::Sizes>, Host> params(exec, {});
  CHECK(params.flat().size() == 0);
  std::vector<float> const x{1, 2, 3, 4, 5, 6};
  std::vector<float> dx(6, float(moe::test::not_a_number));
  auto const in = moe::test::as_matrix(x, 2, 3);
  auto saved    = NoGate{}.make_saved<float>(exec, {}, 2);
  auto carry    = NoGate{}.make_carry<float>(exec, {}, 2);
  NoGate{}.forward(exec, params.const_view(), {}, in, saved, View<float, 2, Host>(nullptr, 2, 0));
  NoGate{}.backward_data(exec,
                         params.const_view(),
                         saved,
                         {},
                         in,
                         View<float const, 2, Host>(nullptr, 2, 0),
                         carry,
                         moe::test::as_matrix(dx, 2, 3));
  CHECK(dx == std::vector<float>(6, 0.f));
}

TEST_CASE("gates refuse sizes of zero within them")
{
  moe::Check const check{"test"};
  CHECK_THROWS_AS(LowRankGate{}.check(check, {4, 4, {0}}), moe::ValueError);
  CHECK_THROWS_AS(CosineGate{}.check(check, {4, 4, {0}}), moe::ValueError);
  CHECK_THROWS_AS(TemperedGate<LowRankGate>{}.check(check, {4, 4, {0}}), moe::ValueError);
  CHECK_NOTHROW(LowRankGate{}.check(check, {4, 4, {1}}));
  CHECK_NOTHROW(CosineGate{}.check(check, {4, 4, {}}));
  CHECK_NOTHROW(TemperedGate<LinearGate>{}.check(check, {4, 4, {}}));
}
