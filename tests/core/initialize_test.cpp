#include <moe/core/initialize.hpp>
#include <moe/exec/host.hpp>

#include "support/lane_team.hpp"
#include "support/numbers.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <type_traits>

using moe::BFloat16, moe::Carver, moe::Half, moe::Host, moe::index_t, moe::Init, moe::OwnedParams,
    moe::View;
using moe::test::Numbers, moe::test::Values;

namespace {

// Two views alike, of a large fan-in; one small; a constant, zeros, and one that is not there.
struct Sizes {
  index_t rows = 300, columns = 64;
};
template <class T, class ExecT>
struct Params {
  View<T, 2, ExecT> a, b;
  View<T, 3, ExecT> c;
  View<T, 1, ExecT> constant, zeros, none;

  static Params carve(Carver<T, ExecT>& carver, Sizes const& s)
  {
    Params p;
    p.a        = carver.take(s.rows, s.columns);
    p.b        = carver.take(s.rows, s.columns);
    p.c        = carver.take(2, 3, 5);
    p.constant = carver.take(1500);
    p.zeros    = carver.take(7);
    p.none     = carver.take(0);
    return p;
  }
  template <class Visit>
  void for_each(Visit visit) const
  {
    visit("a", a, Init::normal(a.extent(1)));
    visit("b", b, Init::normal(b.extent(1)));
    visit("c", c, Init{.mean = 10, .variance = 4});
    visit("constant", constant, Init::constant(0.7));
    visit("zeros", zeros, Init::zeros());
    visit("none", none, Init::normal(3));
  }
};

template <class T>
Values initialized(std::uint64_t seed, int threads, Sizes const& sizes = {})
{
  Host const exec{{.threads = threads}};
  OwnedParams<Params, T, Sizes, Host> params(exec, sizes);
  moe::test::fill_values(params.view(), -1);
  moe::initialize(exec, params.view(), seed);
  return moe::test::values_of(params.view());
}

double correlation(Numbers const& x, Numbers const& y)
{
  double xy = 0, xx = 0, yy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += x[i] * y[i];
    xx += x[i] * x[i];
    yy += y[i] * y[i];
  }
  return xy / std::sqrt(xx * yy);
}

}  // namespace

TEST_CASE("the same seed gives the same values on any number of threads")
{
  auto const one = initialized<float>(5, 1);
  CHECK(initialized<float>(5, 1) == one);
  CHECK(initialized<float>(5, 2) == one);
  CHECK(initialized<float>(5, 7) == one);
}

TEST_CASE("a view is filled with its mean and variance")
{
  auto const v       = initialized<double>(1, 2);
  double const n     = 300 * 64;
  double const sigma = 1 / std::sqrt(64.0);
  for (std::size_t view : {0u, 1u}) {
    double sum = 0, squares = 0, largest = 0;
    for (double const x : v[view]) {
      sum += x;
      squares += x * x;
      largest = std::max(largest, std::abs(x));
    }
    // within five standard deviations of the estimates
    CHECK(std::abs(sum / n) < 5 * sigma / std::sqrt(n));
    CHECK(std::abs(squares / n * 64 - 1) < 5 * std::sqrt(2 / n));
    CHECK(largest > 3 * sigma);
    CHECK(largest < 8 * sigma);
  }
  for (double const x : v[2]) {
    CHECK(std::abs(x - 10) < 2 * 5);
  }
  CHECK(v[2][0] != v[2][1]);
  CHECK(v[3] == Numbers(1500, 0.7));
  CHECK(v[4] == Numbers(7, 0.0));
  CHECK(v[5].empty());
  CHECK(Init::normal(0).variance == 1);  // no division by an empty fan-in
}

TEST_CASE("other seeds, other views and other blocks of a view have other values")
{
  auto const v    = initialized<double>(1, 2);
  double const no = 5 / std::sqrt(300 * 64.0);
  CHECK(std::abs(correlation(v[0], v[1])) < no);
  for (std::uint64_t const seed :
       {std::uint64_t{0}, std::uint64_t{2}, std::uint64_t{1} << 32 | 1}) {
    CAPTURE(seed);
    CHECK(std::abs(correlation(v[0], initialized<double>(seed, 2)[0])) < no);
    CHECK(std::abs(correlation(v[0], initialized<double>(seed, 2)[1])) < no);
  }
  for (index_t const shift : {1, 64, 1024}) {
    Numbers const head(v[0].begin(), v[0].end() - shift), tail(v[0].begin() + shift, v[0].end());
    CHECK(std::abs(correlation(head, tail)) < no * 1.1);
  }
}

TEST_CASE("an element depends on its place in its view, not on the other views' sizes")
{
  auto const few  = initialized<double>(3, 1, {.rows = 5, .columns = 64});
  auto const many = initialized<double>(3, 1, {.rows = 50, .columns = 64});
  for (std::size_t view : {0u, 1u}) {
    CHECK(few[view] == Numbers(many[view].begin(), many[view].begin() + 5 * 64));
  }
  CHECK(few[2] == many[2]);
}

TEST_CASE_TEMPLATE("in another element type: the same values, rounded", T, float, Half, BFloat16)
{
  auto const exact = initialized<double>(9, 2);
  CHECK(initialized<T>(9, 2) == moe::test::rounded_to<T>(exact));
}

TEST_CASE("the elements between views stay as they are")
{
  Host const exec;
  OwnedParams<Params, float, Sizes, Host> params(exec, {.rows = 3, .columns = 7});
  moe::initialize(exec, params.view(), 1);
  auto const flat     = params.const_flat();
  std::size_t written = 0;
  for (index_t i = 0; i < flat.size(); ++i) {
    written += flat(i) != 0;
  }
  CHECK(written == 3 * 7 * 2 + 2 * 3 * 5 + 1500);
}

TEST_CASE("its row maths on five lanes is that on one")
{
  Numbers one(1500), five(1500);
  auto const run = [&](Numbers& to, auto const& lanes) {
    moe::detail::InitializeRow<double, Host> const row{
        View<double, 1, Host>(to.data(), to.size()), Init::normal(1), 3, 1};
    for (index_t b = 0; b < 2; ++b) {
      lanes([&](auto team) { row(team, b); });
    }
  };
  run(one, [](auto const& f) { f(moe::SerialTeam{}); });
  run(five, [](auto const& f) { moe::test::Lanes(5).run(f); });
  CHECK(one == five);
  CHECK(one.back() != 0);
}
