#include <moe/exec/host/sum_rows.hpp>

#include "support/grouped_slots.hpp"
#include "support/numbers.hpp"
#include "support/route_check.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

using moe::BFloat16, moe::Half, moe::Host, moe::Id, moe::index_t, moe::IndexedRows, moe::Result,
    moe::View;
using moe::test::as_list, moe::test::as_matrix, moe::test::elements_of, moe::test::GroupedSlots,
    moe::test::Numbers, moe::test::to_element;

namespace {

// Whole numbers in [-2, 2], whose sums are exact in every element type; or any in [-1, 1].
Numbers whole(index_t n, unsigned seed)
{
  Numbers v;
  for (index_t i = 0; i < n; ++i) {
    seed = seed * 1664525u + 1013904223u;
    v.push_back(static_cast<double>(seed >> 16 & 0xffu) / 64 - 2);
    v.back() = static_cast<double>(static_cast<int>(v.back()));
  }
  return v;
}
Numbers real(index_t n, unsigned seed)
{
  return moe::test::uniform_numbers(static_cast<std::size_t>(n), seed, -1, 1);
}

template <class T>
bool same_bits(std::vector<T> const& a, std::vector<T> const& b)
{
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T, class G>
std::vector<G> column_sums(
    Host const& exec, Numbers const& x, index_t columns, Result how, double was)
{
  auto const elements = elements_of<T>(x);
  std::vector<G> out(static_cast<std::size_t>(columns), to_element<G>(was));
  index_t const rows = columns == 0 ? 3 : static_cast<index_t>(x.size()) / columns;
  moe::sum_rows(exec, as_matrix(elements, rows, columns), how, as_list(out));
  return out;
}

// Sums of products with the weight; index -1 is a row of zeros.
struct GroupedCase {
  GroupedSlots slots;
  index_t columns;
  Numbers x, weight;      // base rows; of each row, or empty
  std::vector<Id> index;  // or empty
};

template <class T, class G>
std::vector<G> grouped_sums(Host const& exec,
                            GroupedCase const& c,
                            double was,
                            bool one_per_expert = false,
                            Result result       = Result::add)
{
  using S             = moe::accumulator_t<T>;
  auto const elements = elements_of<T>(c.x);
  auto const weight   = elements_of<S>(c.weight);
  std::vector<G> out(static_cast<std::size_t>(c.slots.experts() * c.columns), to_element<G>(was));
  IndexedRows<T, Host> rows{as_matrix(elements, c.slots.rows(), c.columns), {}};
  if (!c.index.empty()) { rows.index = as_list(c.index); }
  auto const weights = c.weight.empty() ? View<S const, 1, Host>{} : as_list(weight);
  auto const to      = as_matrix(out, c.slots.experts(), c.columns);
  for (Id e = 0; one_per_expert && e < static_cast<Id>(c.slots.experts()); ++e) {
    moe::grouped_sum_rows(exec, c.slots.view().only(e, e + 1), rows, weights, to, result);
  }
  if (!one_per_expert) { moe::grouped_sum_rows(exec, c.slots.view(), rows, weights, to, result); }
  return out;
}

GroupedCase grouped_case(
    std::vector<Id> counts, Id gap, index_t columns, bool gathered, bool weighted)
{
  GroupedCase c{GroupedSlots(std::move(counts), gap), columns, {}, {}, {}};
  index_t const rows = c.slots.rows();
  c.x                = whole(rows * columns, 1);
  if (weighted) { c.weight = whole(rows, 2); }
  for (index_t r = 0; r < rows; ++r) {
    if (c.slots.owner(r) < 0) {  // what is nobody's must not be read
      if (weighted) { c.weight[static_cast<std::size_t>(r)] = moe::test::not_a_number; }
      for (index_t j = 0; j < columns && !gathered; ++j) {
        c.x[static_cast<std::size_t>(r * columns + j)] = moe::test::not_a_number;
      }
    }
    if (gathered) {
      c.index.push_back(c.slots.owner(r) < 0 ? Id{1} << 30
                                             : static_cast<Id>((r * 5 + 2) % (rows + 1)) - 1);
    }
  }
  return c;
}

template <class T, class G>
void check_grouped(GroupedCase const& c)
{
  CAPTURE(c.columns);
  double const was = 3;
  auto const got   = grouped_sums<T, G>(Host{{.threads = 2}}, c, was);
  Numbers expected(got.size(), was);
  for (index_t r = 0; r < c.slots.rows(); ++r) {
    Id const e         = c.slots.owner(r);
    auto const row     = static_cast<std::size_t>(r);
    index_t const from = c.index.empty() ? r : c.index[row];
    for (index_t j = 0; e >= 0 && from >= 0 && j < c.columns; ++j) {
      expected[static_cast<std::size_t>(e * c.columns + j)] +=
          (c.weight.empty() ? 1 : c.weight[row]) *
          c.x[static_cast<std::size_t>(from * c.columns + j)];
    }
  }
  CHECK(same_bits(got, elements_of<G>(expected)));
}

}  // namespace

TEST_CASE("column sums are the plain ones, written or added, for any extents and threads")
{
  for (int const threads : {1, 3}) {
    Host const exec{{.threads = threads}};
    for (index_t const rows : {0, 1, 2, 255, 256, 257, 1000}) {
      for (index_t const columns : {0, 1, 7, 255, 256, 257, 600}) {
        CAPTURE(rows);
        CAPTURE(columns);
        auto const x = whole(rows * columns, 5);
        Numbers sums(static_cast<std::size_t>(columns));
        for (std::size_t i = 0; i < x.size(); ++i) {
          sums[i % sums.size()] += x[i];
        }
        CHECK(column_sums<float, float>(
                  exec, x, columns, Result::overwrite, moe::test::not_a_number) ==
              elements_of<float>(sums));
        for (double& s : sums) {
          s += 3;
        }
        CHECK(column_sums<float, float>(exec, x, columns, Result::add, 3) ==
              elements_of<float>(sums));
      }
    }
  }
}

TEST_CASE_TEMPLATE("column sums of other element types are taken in theirs and rounded once",
                   T,
                   double,
                   Half,
                   BFloat16)
{
  // 300 rows of 1 + 2^-7 or 1: far more digits than 16 bits hold.
  Numbers x(600, 1.0);
  for (std::size_t i = 0; i < x.size(); i += 6) {
    x[i] += 0x1p-7;
  }
  Numbers sums{300 + 100 * 0x1p-7, 300};
  Host const exec;
  CHECK(same_bits(column_sums<T, T>(exec, x, 2, Result::overwrite, 0), elements_of<T>(sums)));
  CHECK(
      same_bits(column_sums<T, float>(exec, x, 2, Result::overwrite, 0), elements_of<float>(sums)));
  sums = {sums[0] + 0.25, sums[1] + 0.25};
  CHECK(same_bits(column_sums<T, T>(exec, x, 2, Result::add, 0.25), elements_of<T>(sums)));
}

TEST_CASE("column sums: blocks of 256 rows in order, whatever the threads and the other columns")
{
  index_t const rows = 1000, columns = 300;
  auto const x = moe::test::rounded_to<float>(real(rows * columns, 1));
  std::vector<float> expected;
  for (index_t j = 0; j < columns; ++j) {
    float sum = 0;
    for (index_t b = 0; b < rows; b += 256) {
      float block = 0;
      for (index_t r = b; r < std::min(rows, b + 256); ++r) {
        block += static_cast<float>(x[static_cast<std::size_t>(r * columns + j)]);
      }
      sum += block;
    }
    expected.push_back(sum);
  }
  for (int const threads : {1, 2, 5}) {
    Host const exec{{.threads = threads}};
    CHECK(same_bits(column_sums<float, float>(exec, x, columns, Result::overwrite, 0), expected));
  }
  Numbers one;
  for (index_t r = 0; r < rows; ++r) {
    one.push_back(x[static_cast<std::size_t>(r * columns + 299)]);
  }
  CHECK(column_sums<float, float>(Host{}, one, 1, Result::overwrite, 0)[0] == expected.back());
}

TEST_CASE("sums by expert are the plain ones: gathered or not, weighted or not, padded or not")
{
  for (auto const& counts :
       {std::vector<Id>{}, {0}, {0, 0, 0}, {5}, {0, 1, 17, 0, 40, 3, 0}, {300, 2}}) {
    for (Id const gap : {0, 3}) {
      for (int variant = 0; variant < 4; ++variant) {
        for (index_t const columns : {0, 1, 7, 257}) {
          check_grouped<float, float>(
              grouped_case(counts, gap, columns, (variant & 1) != 0, (variant & 2) != 0));
        }
        auto const small = grouped_case(counts, gap, 5, (variant & 1) != 0, (variant & 2) != 0);
        check_grouped<double, double>(small);
        check_grouped<Half, float>(small);
        check_grouped<BFloat16, BFloat16>(small);
      }
    }
  }
}

TEST_CASE_TEMPLATE("sums by expert: the same bits for any threads, and one call per expert",
                   T,
                   float,
                   BFloat16)
{
  auto c         = grouped_case({70, 0, 1, 300, 8, 33}, 3, 300, true, true);
  c.x            = moe::test::rounded_to<T>(real(c.slots.rows() * c.columns, 3));
  c.weight       = moe::test::rounded_to<float>(real(c.slots.rows(), 4));
  auto const one = grouped_sums<T, float>(Host{{.threads = 1}}, c, 0.1);
  for (int const threads : {1, 2, 5}) {
    Host const exec{{.threads = threads}};
    CHECK(same_bits(grouped_sums<T, float>(exec, c, 0.1), one));
    CHECK(same_bits(grouped_sums<T, float>(exec, c, 0.1, true), one));
  }
}

TEST_CASE("an expert without rows is left as it is, to the last bit")
{
  auto const c = grouped_case({0, 2, 0}, 1, 4, false, true);
  for (double const was : {-0.0, 0.1, moe::test::not_a_number}) {
    auto const sum = grouped_sums<float, float>(Host{}, c, was);
    std::vector<float> const old(12, static_cast<float>(was));
    CHECK(std::memcmp(sum.data(), old.data(), 4 * sizeof(float)) == 0);
    CHECK(std::memcmp(sum.data() + 8, old.data() + 8, 4 * sizeof(float)) == 0);
  }
}

TEST_CASE_TEMPLATE(
    "sums by expert that overwrite are those that zeros are added to", G, float, double, BFloat16)
{
  auto c         = grouped_case({0, 70, 0, 1, 300, 8, 0}, 3, 300, true, true);
  c.x            = moe::test::rounded_to<float>(real(c.slots.rows() * c.columns, 3));
  auto const sum = grouped_sums<float, G>(Host{{.threads = 2}}, c, 0);
  for (bool const one_per_expert : {false, true}) {
    CHECK(same_bits(
        grouped_sums<float, G>(
            Host{{.threads = 2}}, c, moe::test::not_a_number, one_per_expert, Result::overwrite),
        sum));
  }
}

TEST_CASE("sums over rows refuse extents that do not fit together")
{
  Host const exec;
  std::vector<float> x(12), out(4);
  CHECK_THROWS_AS(moe::sum_rows(exec, as_matrix(x, 4, 3), Result::add, as_list(out)),
                  moe::ShapeError);
  GroupedSlots const slots({1, 2}, 0);
  IndexedRows<float, Host> const rows{as_matrix(x, 3, 4), {}};
  CHECK_THROWS_AS(moe::grouped_sum_rows(
                      exec, slots.view(), rows, View<float const, 1, Host>{}, as_matrix(out, 2, 2)),
                  moe::ShapeError);
}
