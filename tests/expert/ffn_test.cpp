#include <moe/expert/ffn.hpp>

#include "support/expert_check.hpp"
#include "support/lane_team.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <vector>

using moe::BFloat16, moe::ClampedGlu, moe::Ffn, moe::GeGlu, moe::Gelu, moe::Half, moe::Host,
    moe::Id, moe::index_t, moe::Relu, moe::Silu, moe::SquaredRelu, moe::SwiGlu, moe::with_bias;
using moe::test::distance, moe::test::expert_problem, moe::test::ExpertCalls,
    moe::test::ExpertProblem, moe::test::ExpertShape, moe::test::minus, moe::test::Numbers,
    moe::test::plain_experts, moe::test::rounded, moe::test::rows_where, moe::test::run_experts,
    moe::test::untouched, moe::test::Values;

namespace {

static_assert(moe::ExpertKernel<Ffn<Relu>, float, Host>);
static_assert(moe::ExpertKernel<Ffn<SwiGlu, with_bias>, double, Host>);
static_assert(moe::ExpertKernel<Ffn<ClampedGlu, with_bias>, BFloat16, Host>);
static_assert(moe::ExpertKernel<Ffn<GeGlu>, Half, Host>);

Host own_products(int threads)
{
  return Host{{.threads = threads, .products = moe::Products::own}};
}

// Gathered rows with repetitions and rows of zeros; dy too.
ExpertProblem gathered(ExpertProblem p)
{
  auto const owners = p.shape.owners();
  auto const R      = static_cast<Id>(owners.size());
  for (Id r = 0; r < R; ++r) {
    bool const nobody = owners[static_cast<std::size_t>(r)] < 0;
    p.x_index.push_back(nobody ? Id{1} << 30 : r % 4 == 1 ? -1 : (r * 7 + 3) % R);
    p.dy_index.push_back(nobody ? Id{1} << 30 : r % 5 == 2 ? -1 : r / 2);
  }
  return p;
}

}  // namespace

TEST_CASE_TEMPLATE("all experts in one call, or one call each, and any threads: the same bits",
                   T,
                   float,
                   BFloat16)
{
  Ffn<SwiGlu, with_bias> const ffn;
  for (Id const gap : {0, 3}) {
    auto const p   = gathered(rounded<T>(expert_problem(ffn, {37, 21, {20, 0, 1, 90, 13}, gap})));
    auto const one = run_experts<T, float>(own_products(1), ffn, p);
    CHECK(one.inferred == one.out);
    for (int const threads : {1, 2, 5}) {
      for (bool const each : {false, true}) {
        CAPTURE(threads);
        CAPTURE(each);
        CHECK(run_experts<T, float>(own_products(threads), ffn, p, {.one_per_expert = each}) ==
              one);
      }
    }
  }
}

TEST_CASE("gathered rows are the rows themselves, and -1 is a row of zeros")
{
  Ffn<SwiGlu, with_bias> const ffn;
  auto const p     = gathered(rounded<float>(expert_problem(ffn, {7, 5, {5, 0, 8, 1}})));
  auto const plain = p.expanded();
  CHECK(std::count(p.x_index.begin(), p.x_index.end(), -1) > 0);
  auto const r = run_experts<float, float>(own_products(2), ffn, p);
  CHECK(r == run_experts<float, float>(own_products(2), ffn, plain));
  CHECK(distance(r.out, plain_experts(ffn, plain)) < 1e-6);
  for (std::size_t i = 0; i < p.dy_index.size(); ++i) {
    if (p.dy_index[i] < 0) { CHECK(r.d_weight[i] == 0); }
  }
}

TEST_CASE("padded slots: the same bits as without, and what lies between is not touched nor read")
{
  Ffn<SwiGlu, with_bias> const ffn;
  ExpertShape const compact{7, 5, {4, 0, 9, 1}}, padded{7, 5, {4, 0, 9, 1}, 3};
  auto p       = rounded<float>(expert_problem(ffn, padded));
  auto const q = [&] {
    auto c   = p;
    c.shape  = compact;
    c.x      = rows_where(padded, p.x, 7, true);
    c.dy     = rows_where(padded, p.dy, 7, true);
    c.weight = rows_where(padded, p.weight, 1, true);
    return c;
  }();
  auto const owners = padded.owners();
  for (std::size_t i = 0; i < p.x.size(); ++i) {
    if (owners[i / 7] < 0) { p.x[i] = p.dy[i] = p.weight[i / 7] = moe::test::not_a_number; }
  }
  auto const r = run_experts<float, float>(own_products(2), ffn, p);
  auto const c = run_experts<float, float>(own_products(2), ffn, q);
  CHECK(r.grads == c.grads);
  auto const check = [&](Numbers const& with, Numbers const& without, index_t columns) {
    CHECK(rows_where(padded, with, columns, true) == without);
    for (double const v : rows_where(padded, with, columns, false)) {
      CHECK(v == untouched);
    }
  };
  check(r.inferred, c.inferred, 7);
  check(r.out, c.out, 7);
  check(r.dx, c.dx, 7);
  check(r.d_weight, c.d_weight, 1);
}

TEST_CASE("experts without rows leave their gradients as they are, to the last bit")
{
  Ffn<SwiGlu, with_bias> const ffn;
  for (Id const gap : {0, 2}) {
    auto const p = expert_problem(ffn, {3, 5, {0, 4, 0, 2, 0}, gap});
    for (double const before : {0.0, -0.0, 0.1}) {
      auto const r = run_experts<float, float>(Host{}, ffn, p, {.before = before});
      for (auto const& grad : r.grads) {
        std::size_t const size = grad.size() / 5;
        for (std::size_t i = 0; i < grad.size(); ++i) {
          if (i / size % 2 == 0) {
            CHECK(grad[i] == static_cast<double>(static_cast<float>(before)));
            CHECK(std::signbit(grad[i]) == std::signbit(before));
          }
        }
        CHECK(minus(grad, static_cast<float>(before)) != Numbers(grad.size()));
      }
    }
  }
}

TEST_CASE("no rows at all: nothing happens")
{
  Ffn<SwiGlu, with_bias> const ffn;
  for (auto const& counts : {std::vector<Id>{0}, {0, 0, 0}}) {
    for (Id const gap : {0, 2}) {
      auto const p = expert_problem(ffn, {3, 5, counts, gap});
      auto const r = run_experts<double, double>(Host{}, ffn, p, {.before = 0.5});
      CHECK(std::all_of(r.out.begin(), r.out.end(), [](double v) { return v == untouched; }));
      CHECK(std::all_of(r.dx.begin(), r.dx.end(), [](double v) { return v == untouched; }));
      for (auto const& grad : r.grads) {
        CHECK(minus(grad, 0.5) == Numbers(grad.size()));
      }
    }
  }
}

TEST_CASE_TEMPLATE("out, dx and d_weight of a row do not depend on its neighbours", T, float, Half)
{
  Ffn<SwiGlu, with_bias> const ffn;
  auto const p   = rounded<T>(expert_problem(ffn, {37, 21, {150, 20}}));
  auto const all = run_experts<T, T>(own_products(2), ffn, p);
  for (index_t const r : {0, 77, 149, 150, 169}) {
    CAPTURE(r);
    auto const row = [&](Numbers const& v, index_t n) {
      return Numbers(v.begin() + r * n, v.begin() + (r + 1) * n);
    };
    ExpertProblem alone{{37, 21, {r < 150 ? 1 : 0, r < 150 ? 0 : 1}},
                        p.params,
                        row(p.x, 37),
                        row(p.dy, 37),
                        {},
                        {},
                        row(p.weight, 1)};
    auto const one = run_experts<T, T>(own_products(2), ffn, alone);
    CHECK(one.out == row(all.out, 37));
    CHECK(one.dx == row(all.dx, 37));
    CHECK(one.d_weight == row(all.d_weight, 1));
  }
}

TEST_CASE("d_weight is <dy, F(x)>, whatever the weight, and dx is proportional to it")
{
  Ffn<GeGlu, with_bias> const ffn;
  auto p            = expert_problem(ffn, {7, 5, {3, 2}});
  p.weight          = {0, 1, -2, 0.5, 1};
  auto const r      = run_experts<double, double>(Host{}, ffn, p);
  auto const out    = plain_experts(ffn, p);
  auto unweighted   = p;
  unweighted.weight = Numbers(5, 1.0);
  auto const u      = run_experts<double, double>(Host{}, ffn, unweighted);
  for (std::size_t row = 0; row < 5; ++row) {
    double expected = 0;
    for (std::size_t d = row * 7; d < (row + 1) * 7; ++d) {
      expected += p.dy[d] * out[d];
      CHECK(r.dx[d] == doctest::Approx(p.weight[row] * u.dx[d]).epsilon(1e-13));
    }
    CHECK(r.d_weight[row] == doctest::Approx(expected).epsilon(1e-12));
  }
}

// Between x and out there are three roundings to the element type (pre, a, out), between dy and the
// gradients as many more; each is off by half a step of its own size at most, and sums mix them.
TEST_CASE_TEMPLATE("other element types are the FFN in double", T, float, Half, BFloat16)
{
  double const half_step = std::is_same_v<T, BFloat16> ? 0x1p-8
                           : std::is_same_v<T, Half>   ? 0x1p-11
                                                       : 0x1p-24;
  auto const check       = [&](auto const& ffn, ExpertShape const& s) {
    auto const p       = rounded<T>(expert_problem(ffn, s));
    auto const exact   = run_experts<double, double>(Host{}, ffn, p);
    auto const r       = run_experts<T, T>(own_products(2), ffn, p);
    auto const wide    = run_experts<T, float>(own_products(2), ffn, p);
    double const bound = 4 * half_step + 3e-7;  // float's sums
    CHECK(distance(r.out, exact.out) < bound);
    CHECK(distance(r.dx, exact.dx) < bound);
    CHECK(distance(r.d_weight, exact.d_weight) < bound);
    CHECK(wide.dx == r.dx);
    for (std::size_t i = 0; i < exact.grads.size(); ++i) {
      CHECK(distance(r.grads[i], exact.grads[i]) < bound);
      CHECK(distance(wide.grads[i], exact.grads[i]) < bound);
      // rounded once, at the end (small ones to a multiple of half's smallest)
      CHECK(distance(r.grads[i], wide.grads[i], half_step) < 1e-7);
    }
  };
  check(Ffn<SwiGlu, with_bias>{}, {33, 17, {9, 20}});
  check(Ffn<Gelu>{}, {7, 33, {1, 6, 12}});
}

TEST_CASE("gradients of parameters add up; float gradients of bfloat16 parameters keep small ones")
{
  Ffn<SwiGlu, with_bias> const ffn;
  auto const p    = rounded<BFloat16>(expert_problem(ffn, {7, 5, {4, 3}}));
  auto const once = run_experts<BFloat16, float>(own_products(2), ffn, p, {.before = 64});
  auto const zero = run_experts<BFloat16, float>(own_products(2), ffn, p);
  auto const thrice =
      run_experts<BFloat16, float>(own_products(2), ffn, p, {.before = 64, .passes = 3});
  CHECK(once.dx == thrice.dx);
  for (std::size_t i = 0; i < zero.grads.size(); ++i) {
    auto tripled = zero.grads[i];
    for (double& g : tripled) {
      g *= 3;
    }
    CHECK(distance(minus(once.grads[i], 64), zero.grads[i]) < 1e-4);
    CHECK(distance(minus(thrice.grads[i], 64), tripled) < 1e-4);
  }
}

TEST_CASE("sizes: layout() gives back what carve was given; ffn 0 is refused")
{
  Host const exec;
  using Kernel = Ffn<SwiGlu, with_bias>;
  moe::OwnedParams<Kernel::Params, float, Kernel::Layout, Host> params(exec, {3, 5, {7}});
  auto const layout = params.view().layout();
  CHECK(layout.experts == 3);
  CHECK(layout.hidden == 5);
  CHECK(layout.own == Kernel::Sizes{7});
  CHECK_THROWS_AS(Kernel{}.check(moe::Check{"test"}, {3, 5, {0}}), moe::ValueError);
  CHECK_NOTHROW(Kernel{}.check(moe::Check{"test"}, {3, 5, {1}}));
}

TEST_CASE("the backward row maths on five lanes is that on one")
{
  index_t const F = 6 * 64 + 5, D = 7;  // more than once around, and some
  auto const pre   = moe::test::uniform_numbers(2 * F, 1, -1, 1);
  auto const da    = moe::test::uniform_numbers(F, 2, -1, 1);
  auto const dy    = moe::test::uniform_numbers(D, 3, -1, 1);
  auto const b_out = moe::test::uniform_numbers(D, 4, -1, 1);
  Numbers const weight{0.7};
  using moe::test::as_list, moe::test::as_matrix;
  struct State {
    Numbers a, d_pre, d_weight;
  };
  auto const with_team = [&](auto const& run) {
    State s{da, Numbers(2 * F), Numbers(1)};
    moe::detail::ActivateBackwardRow<SwiGlu, double, Host> const row{{},
                                                                     as_matrix(pre, 1, 2 * F),
                                                                     as_list(weight),
                                                                     {as_matrix(dy, 1, D), {}},
                                                                     as_matrix(b_out, 1, D),
                                                                     as_matrix(s.a, 1, F),
                                                                     as_matrix(s.d_pre, 1, 2 * F),
                                                                     as_list(s.d_weight)};
    run([&](auto team) { row(team, 0, 0); });
    return s;
  };
  auto const one  = with_team([](auto const& f) { f(moe::SerialTeam{}); });
  auto const five = with_team([](auto const& f) { moe::test::Lanes(5).run(f); });
  CHECK(five.a == one.a);
  CHECK(five.d_pre == one.d_pre);
  CHECK(distance(five.d_weight, one.d_weight) < 1e-14);
}
