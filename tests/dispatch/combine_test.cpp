// Compile at -O1: little work.
// On every space.
#include "support/spaces.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "support/plan_cases.hpp"
#include "support/rows.hpp"

using moe::accumulator_t, moe::BFloat16, moe::Half, moe::Id, moe::index_t, moe::SlotLayout,
    moe::Tensor, moe::View;
using moe::test::elements_of, moe::test::random_routes, moe::test::random_values,
    moe::test::rounding, moe::test::Routes, moe::test::same_bits, moe::test::Spread,
    moe::test::tensor_of, moe::test::one_thread, moe::test::three_threads, moe::test::TestSpace;

namespace {

struct Extras {
  bool weights, addend;
};

// y against a double loop in double, and its bits over threads and repeats.
template <class T>
void check_combine(std::mt19937& rng, Routes const& r, SlotLayout layout, index_t D, Extras with)
{
  using S            = accumulator_t<T>;
  auto const routing = moe::test::to_routing<S>(one_thread(), r);
  index_t const C    = static_cast<index_t>(r.assignments()) / r.experts;
  auto const plan    = moe::test::plan_of(
      one_thread(), moe::DropByPosition{moe::FixedCapacity{C}}, layout, r, routing);
  index_t const N = r.tokens, R = plan.rows();
  auto values = random_values(rng, R * D);
  // Rows that no assignment has, padding, must not be read into any sum.
  auto const slot_of = moe::test::read(one_thread(), plan.slot_of);
  std::vector<bool> live(static_cast<std::size_t>(R), false);
  for (Id const s : slot_of) {
    if (s >= 0) { live[static_cast<std::size_t>(s)] = true; }
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!live[i / static_cast<std::size_t>(D)]) { values[i] = NAN; }
  }
  auto const rows       = tensor_of<T>(one_thread(), R, D, values);
  auto const row_values = elements_of(one_thread(), rows);
  auto const addend     = tensor_of<S>(one_thread(), N, D, random_values(rng, N * D));
  auto const run        = [&](TestSpace const& exec) {
    auto y =
        tensor_of<T>(one_thread(), N, D, std::vector<double>(static_cast<std::size_t>(N * D), NAN));
    moe::combine(exec,
                 routing.assignments(),
                 plan,
                 with.weights ? routing.weight.const_view() : View<S const, 1, TestSpace>{},
                 rows.const_view(),
                 with.addend ? addend.const_view() : View<S const, 2, TestSpace>{},
                 y.view());
    return elements_of(one_thread(), y);
  };
  auto const y           = run(one_thread());
  auto const added_first = elements_of(one_thread(), addend);
  std::vector<double> sum(static_cast<std::size_t>(N * D), 0), size(sum.size(), 0);
  for (std::size_t i = 0; i < sum.size() && with.addend; ++i) {
    sum[i]  = static_cast<double>(added_first[i]);
    size[i] = std::fabs(sum[i]);
  }
  for (std::size_t a = 0; a < r.assignments(); ++a) {
    Id const slot = slot_of[a];
    for (index_t d = 0; d < D && slot >= 0; ++d) {
      auto const at  = static_cast<std::size_t>(r.token[a] * D + d);
      double const w = with.weights ? static_cast<double>(static_cast<S>(r.weight[a])) : 1;
      double const added =
          w *
          static_cast<double>(static_cast<S>(row_values[static_cast<std::size_t>(slot * D + d)]));
      sum[at] += added;
      size[at] += std::fabs(added);
    }
  }
  index_t wrong = 0;
  for (std::size_t i = 0; i < sum.size(); ++i) {
    double const is    = static_cast<double>(static_cast<S>(y[i]));
    double const slack = size[i] * 80 * rounding<S>() + std::fabs(sum[i]) * 1.01 * rounding<T>() +
                         0x1p-25;  // half of half's smallest step
    wrong += !(std::fabs(is - sum[i]) <= slack);
  }
  CAPTURE(r.tokens);
  CAPTURE(r.top_k);
  CAPTURE(D);
  CHECK(wrong == 0);
  CHECK(same_bits(run(three_threads()), y));
  CHECK(same_bits(run(one_thread()), y));
  // What a space has of its own has the bits of the functor.
  Tensor<T, 2, TestSpace> plain(one_thread(), N, D);
  moe::detail::CombineRow<T, TestSpace> const row{
      routing.assignments(),
      plan.slot_of.const_view(),
      with.weights ? routing.weight.const_view() : View<S const, 1, TestSpace>{},
      rows.const_view(),
      with.addend ? addend.const_view() : View<S const, 2, TestSpace>{},
      plain.view()};
  one_thread().for_each_row(N, row);
  CHECK(same_bits(elements_of(one_thread(), plain), y));
}

template <class T>
void check_shapes(unsigned seed)
{
  std::mt19937 rng(seed);
  int i = 0;
  for (int const N : {0, 1, 2, 7, 65, 129}) {
    for (index_t const D : {1, 2, 7, 15, 16, 17, 33, 100}) {
      int const Ks[]    = {1, 2, 3, 8, 32, 0};
      auto const spread = i % 3 == 0 ? Spread::with_none : Spread::random;
      Routes const r    = random_routes(rng, N, 12, Ks[i % 6], spread);
      check_combine<T>(rng, r, SlotLayout::compact, D, {true, i % 2 > 0});
      check_combine<T>(rng, r, SlotLayout::padded, D, {i % 4 > 0, i % 2 == 0});
      ++i;
    }
  }
}

// One token whose K rows go to one expert, in order: y (1, D).
template <class T>
std::vector<T> combine_one(std::vector<double> const& row_values,
                           std::vector<double> const& weight,
                           View<accumulator_t<T> const, 2, TestSpace> addend)
{
  auto const K    = static_cast<int>(row_values.size());
  index_t const D = 19;  // a block of columns and some more
  Routes r{1,
           1,
           K,
           std::vector<Id>(row_values.size(), 0),
           std::vector<Id>(row_values.size(), 0),
           {},
           weight,
           {0.f}};
  auto const routing = moe::test::to_routing<accumulator_t<T>>(one_thread(), r);
  auto const plan =
      moe::test::plan_of(one_thread(), moe::Dropless{}, SlotLayout::compact, r, routing);
  std::vector<double> values;
  for (double const v : row_values) {
    values.insert(values.end(), static_cast<std::size_t>(D), v);
  }
  auto const rows = tensor_of<T>(one_thread(), K, D, values);
  auto y = tensor_of<T>(one_thread(), 1, D, std::vector<double>(static_cast<std::size_t>(D), NAN));
  moe::combine(one_thread(),
               routing.assignments(),
               plan,
               routing.weight.const_view(),
               rows.const_view(),
               addend,
               y.view());
  return elements_of(one_thread(), y);
}

}  // namespace

TEST_CASE("combine is the weighted sum of a token's rows: float")
{
  check_shapes<float>(1);
}
TEST_CASE("combine is the weighted sum of a token's rows: double")
{
  if constexpr (moe::test::space_has_double) { check_shapes<double>(2); }
}
TEST_CASE("combine is the weighted sum of a token's rows: half")
{
  check_shapes<Half>(3);
}
TEST_CASE("combine is the weighted sum of a token's rows: bfloat16")
{
  check_shapes<BFloat16>(4);
}

TEST_CASE("a token's rows are added in the order of its choices, the addend first")
{
  std::vector<double> const ones(3, 1.0);
  for (float const y : combine_one<float>({1e8, 1, -1e8}, ones, {})) {
    CHECK(y == 0);  // the 1 is lost in 1e8
  }
  for (float const y : combine_one<float>({1e8, -1e8, 1}, ones, {})) {
    CHECK(y == 1);
  }
  auto const addend = tensor_of<float>(one_thread(), 1, 19, std::vector<double>(19, 1e8));
  for (float const y : combine_one<float>({1, -1e8, 1}, ones, addend.const_view())) {
    CHECK(y == 1);
  }
}

TEST_CASE("sums are kept in float and rounded to 16 bits once")
{
  // Rounded after every row, 1 would stay 1.
  std::vector<double> small(32, 0x1p-9);
  small[0] = 1;
  std::vector<double> const ones(32, 1.0);
  for (BFloat16 const y : combine_one<BFloat16>(small, ones, {})) {
    CHECK(static_cast<float>(y) == static_cast<float>(BFloat16(1 + 31 * 0x1p-9f)));
    CHECK(static_cast<float>(y) > 1.05f);
  }
  for (auto& v : small) {
    v = v == 1 ? 1 : 0x1p-12;
  }
  for (Half const y : combine_one<Half>(small, ones, {})) {
    CHECK(static_cast<float>(y) == static_cast<float>(Half(1 + 31 * 0x1p-12f)));
    CHECK(static_cast<float>(y) > 1.005f);
  }
}

TEST_CASE("rows that equal x, with weights that sum to 1, give x back")
{
  std::mt19937 rng(5);
  auto const check = [&]<class T>(T) {
    using S         = accumulator_t<T>;
    index_t const N = 37, D = 33;
    Routes r = random_routes(rng, static_cast<int>(N), 6, 4, Spread::random);
    for (std::size_t a = 0; a < r.assignments(); ++a) {
      double const weights[] = {0.5, 0.25, 0.125, 0.125};
      r.weight[a]            = weights[a % 4];
    }
    auto const routing  = moe::test::to_routing<S>(one_thread(), r);
    auto const plan     = moe::test::plan_of(three_threads(),
                                         moe::DropByPosition{moe::FixedCapacity{N}},
                                         SlotLayout::padded,
                                         r,
                                         routing);
    auto const x        = tensor_of<T>(one_thread(), N, D, random_values(rng, N * D));
    auto const x_values = elements_of(one_thread(), x);
    auto const slot_of  = moe::test::read(one_thread(), plan.slot_of);
    std::vector<T> at_slots(static_cast<std::size_t>(plan.rows() * D));
    for (std::size_t a = 0; a < slot_of.size(); ++a) {
      if (slot_of[a] < 0) { continue; }
      std::copy_n(x_values.begin() + r.token[a] * D, D, at_slots.begin() + slot_of[a] * D);
    }
    Tensor<T, 2, TestSpace> rows(one_thread(), plan.rows(), D);
    one_thread().copy_from_host(rows.view().data_handle(), at_slots.data(), rows.bytes());
    Tensor<T, 2, TestSpace> y(one_thread(), N, D);
    moe::combine(three_threads(),
                 routing.assignments(),
                 plan,
                 routing.weight.const_view(),
                 rows.const_view(),
                 {},
                 y.view());
    // x w is exact for powers of two; in float and double partial sums may round.
    index_t wrong       = 0;
    auto const y_values = elements_of(one_thread(), y);
    for (std::size_t i = 0; i < y_values.size(); ++i) {
      auto const is  = static_cast<double>(static_cast<S>(y_values[i]));
      auto const was = static_cast<double>(static_cast<S>(x_values[i]));
      wrong += !(std::fabs(is - was) <= (sizeof(T) == 2 ? 0 : 2 * rounding<T>() * std::fabs(was)));
    }
    CHECK(wrong == 0);
  };
  check(float{});
  if constexpr (moe::test::space_has_double) { check(double{}); }
  check(Half{});
  check(BFloat16{});
}

TEST_CASE("a token that lost all its assignments gets its addend, or 0")
{
  Routes const r{3, 1, 1, {0, 0, moe::no_expert}, {0, 1, 2}, {0, 0, 0}, {1, 1, 1}, {0, 0, 0}};
  auto const routing = moe::test::to_routing<float>(one_thread(), r);
  auto const plan    = moe::test::plan_of(
      one_thread(), moe::DropByPosition{moe::FixedCapacity{1}}, SlotLayout::padded, r, routing);
  auto const rows   = tensor_of<float>(one_thread(), 1, 2, {7, 8});
  auto const addend = tensor_of<float>(one_thread(), 3, 2, {1, 2, 3, 4, 5, 6});
  auto y            = tensor_of<float>(one_thread(), 3, 2, std::vector<double>(6, NAN));
  moe::combine(one_thread(),
               routing.assignments(),
               plan,
               routing.weight.const_view(),
               rows.const_view(),
               {},
               y.view());
  CHECK((elements_of(one_thread(), y) == std::vector<float>{7, 8, 0, 0, 0, 0}));
  moe::combine(one_thread(),
               routing.assignments(),
               plan,
               routing.weight.const_view(),
               rows.const_view(),
               addend.const_view(),
               y.view());
  CHECK((elements_of(one_thread(), y) == std::vector<float>{8, 10, 3, 4, 5, 6}));
}
