#include <moe/exec/host/grouped_gemm.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <random>
#include <vector>

using moe::BFloat16, moe::Half, moe::Host, moe::Id, moe::index_t, moe::IndexedRows, moe::Products,
    moe::Result, moe::RowGroups, moe::Transpose, moe::View;

namespace {

float const nan = std::numeric_limits<float>::quiet_NaN();

template <class T>
T to(double value)
{
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value);
  } else {
    return T(static_cast<float>(value));
  }
}

// A row-major buffer with views of it.
template <class T>
struct Buffer {
  std::vector<T> v;

  explicit Buffer(index_t n) : v(static_cast<std::size_t>(n)) {}
  // Whole numbers in [-2, 2], whose sums are exact.
  Buffer& whole(unsigned seed)
  {
    std::minstd_rand random(seed + 1);
    for (auto& x : v) {
      x = to<T>(static_cast<double>(random() / 7 % 5) - 2);
    }
    return *this;
  }
  Buffer& real(unsigned seed)
  {
    std::minstd_rand random(seed + 1);
    std::uniform_real_distribution<double> distribution(-1, 1);
    for (auto& x : v) {
      x = to<T>(distribution(random));
    }
    return *this;
  }
  View<T, 2, Host> matrix(index_t columns)
  {
    return View<T, 2, Host>(
        v.data(), columns == 0 ? 0 : static_cast<index_t>(v.size()) / columns, columns);
  }
  View<T, 3, Host> matrices(index_t experts, index_t rows, index_t columns)
  {
    return View<T, 3, Host>(v.data(), experts, rows, columns);
  }
  [[nodiscard]] bool same_bits(Buffer const& other) const
  {
    return v.size() == other.v.size() &&
           (v.empty() || std::memcmp(v.data(), other.v.data(), v.size() * sizeof(T)) == 0);
  }
};

// Rows of each expert; `gap` unused slots after each make a padded layout.
struct Groups {
  std::vector<Id> offsets{0}, counts;
  bool padded;

  Groups(std::vector<Id> rows, Id gap) : counts{std::move(rows)}, padded{gap > 0}
  {
    for (Id n : counts) {
      offsets.push_back(offsets.back() + n + gap);
    }
  }
  [[nodiscard]] index_t experts() const { return static_cast<index_t>(counts.size()); }
  [[nodiscard]] index_t rows() const { return offsets.back(); }
  [[nodiscard]] index_t expert_of(index_t row) const  // -1 for an unused slot
  {
    for (std::size_t e = 0; e < counts.size(); ++e) {
      if (row >= offsets[e] && row < offsets[e] + counts[e]) { return static_cast<index_t>(e); }
    }
    return -1;
  }
  [[nodiscard]] RowGroups<Host> view() const
  {
    RowGroups<Host> groups{
        View<Id const, 1, Host>(offsets.data(), offsets.size()), {}, rows(), 0, Id(experts())};
    if (padded) { groups.counts = View<Id const, 1, Host>(counts.data(), counts.size()); }
    return groups;
  }
};

// Rows reached through an index with repetitions and -1 (or as they lie, without one). What belongs
// to unused slots must not be read: its index points nowhere, its row is NaN.
template <class T>
struct Rows {
  index_t columns;
  Buffer<T> base;
  std::vector<Id> index;

  Rows(Groups const& groups, index_t d, bool gathered, unsigned seed, bool real)
      : columns{d}, base{groups.rows() * d}
  {
    real ? base.real(seed) : base.whole(seed);
    std::minstd_rand random(seed + 5);
    for (index_t r = 0; r < groups.rows(); ++r) {
      bool const unused = groups.expert_of(r) < 0;
      if (gathered) {
        index_t const at = static_cast<index_t>(random()) % (groups.rows() + 1) - 1;
        index.push_back(unused ? Id{1} << 30 : Id(at));
      } else if (unused) {
        std::fill_n(base.v.begin() + r * d, d, to<T>(double(nan)));
      }
    }
  }
  [[nodiscard]] IndexedRows<T, Host> view()
  {
    IndexedRows<T, Host> rows{base.matrix(columns), {}};
    if (!index.empty()) { rows.index = View<Id const, 1, Host>(index.data(), index.size()); }
    return rows;
  }
  [[nodiscard]] double operator()(index_t r, index_t d)
  {
    T const* const row = view().row(r);
    return row == nullptr ? 0.0 : double(row[d]);
  }
};

struct Case {
  Transpose tw;
  bool gathered, bias;
};

template <class A, class W, class C>
index_t wrong_rows(Host const& exec, Groups const& groups, index_t n, index_t k, Case how)
{
  bool const t = how.tw == Transpose::yes;
  Rows<A> a(groups, k, how.gathered, 1, false);
  Buffer<W> w(groups.experts() * n * k), bias(groups.experts() * n);
  Buffer<C> c(groups.rows() * n);
  auto const vw = w.whole(2).matrices(groups.experts(), t ? n : k, t ? k : n);
  auto const vb = bias.whole(3).matrix(n);
  auto const vc = c.matrix(n);
  for (auto& x : c.v) {
    x = to<C>(99);
  }
  if (how.bias) {
    moe::grouped_gemm_rows(exec, groups.view(), a.view(), how.tw, vw, vb, vc);
  } else {
    moe::grouped_gemm_rows(exec, groups.view(), a.view(), how.tw, vw, {}, vc);
  }
  index_t wrong = 0;
  for (index_t r = 0; r < groups.rows(); ++r) {
    index_t const e = groups.expert_of(r);
    for (index_t j = 0; j < n; ++j) {
      double expected = 99;
      if (e >= 0) {
        expected = how.bias ? double(vb(e, j)) : 0.0;
        for (index_t i = 0; i < k; ++i) {
          expected += a(r, i) * double(t ? vw(e, j, i) : vw(e, i, j));
        }
      }
      wrong += double(vc(r, j)) != double(to<C>(expected));
    }
  }
  return wrong;
}

template <class A, class B, class G>
index_t wrong_weights(Host const& exec,
                      Groups const& groups,
                      index_t m,
                      index_t n,
                      bool gathered,
                      Result result = Result::add)
{
  Rows<A> a(groups, m, gathered, 1, false);
  Rows<B> b(groups, n, gathered, 2, false);
  Buffer<G> dw(groups.experts() * m * n);
  auto const vd = dw.whole(3).matrices(groups.experts(), m, n);
  // Adding, an expert without rows is not touched; overwriting, it makes no odds what there was.
  bool const add = result == Result::add;
  for (index_t e = 0; e < groups.experts(); ++e) {
    if (!add || groups.counts[static_cast<std::size_t>(e)] == 0) {
      std::fill_n(dw.v.begin() + e * m * n, m * n, to<G>(double(nan)));
    }
  }
  auto old       = dw;
  auto const was = old.matrices(groups.experts(), m, n);
  moe::grouped_gemm_weights(exec, groups.view(), a.view(), b.view(), vd, result);
  index_t wrong = 0;
  for (index_t e = 0; e < groups.experts(); ++e) {
    auto const at       = static_cast<std::size_t>(e);
    index_t const begin = groups.offsets[at], end = begin + groups.counts[at];
    for (index_t i = 0; i < m; ++i) {
      for (index_t j = 0; j < n; ++j) {
        double expected = add ? double(was(e, i, j)) : 0.0;
        for (index_t r = begin; r < end; ++r) {
          expected += a(r, i) * b(r, j);
        }
        bool const same = add && begin == end
                              ? std::memcmp(&vd(e, i, j), &was(e, i, j), sizeof(G)) == 0
                              : double(vd(e, i, j)) == double(to<G>(expected));
        wrong += !same;
      }
    }
  }
  return wrong;
}

Host own(int threads)
{
  return Host{{.threads = threads, .products = Products::own}};
}

std::vector<Groups> layouts()
{
  return {Groups({0, 1, 17, 0, 40, 3, 0}, 0),
          Groups({0, 1, 17, 0, 40, 3, 0}, 5),
          Groups({300}, 0),
          Groups({0, 0}, 0),
          Groups({}, 0),
          Groups({8, 8, 8, 8}, 1)};
}

template <class A, class W, class C>
void check_all(Host const& exec, index_t n, index_t k)
{
  for (auto const& groups : layouts()) {
    for (int variant = 0; variant < 8; ++variant) {
      CAPTURE(groups.rows());
      CAPTURE(variant);
      Case const how{.tw       = variant & 1 ? Transpose::yes : Transpose::no,
                     .gathered = (variant & 2) != 0,
                     .bias     = (variant & 4) != 0};
      CHECK(wrong_rows<A, W, C>(exec, groups, n, k, how) == 0);
    }
    for (Result const result : {Result::add, Result::overwrite}) {
      CHECK(wrong_weights<A, W, C>(exec, groups, n, k, false, result) == 0);
      CHECK(wrong_weights<A, W, C>(exec, groups, n, k, true, result) == 0);
    }
  }
}

}  // namespace

TEST_CASE("grouped products equal the plain sums; other rows are neither read nor written")
{
  for (int threads : {1, 2, 5}) {
    check_all<float, float, float>(own(threads), 37, 70);
  }
  Host const exec = own(2);
  check_all<float, float, float>(exec, 1, 1);
  check_all<float, float, float>(exec, 33, 0);
  check_all<float, float, float>(exec, 0, 33);
  check_all<float, float, float>(exec, 600, 16);
  check_all<float, float, float>(exec, 16, 530);
}

TEST_CASE_TEMPLATE("grouped products of one element type", T, double, Half, BFloat16)
{
  check_all<T, T, T>(own(2), 20, 35);
}

TEST_CASE("grouped products of mixed element types")
{
  check_all<BFloat16, BFloat16, float>(own(2), 20, 35);
  check_all<float, Half, float>(own(2), 20, 35);
  check_all<float, BFloat16, double>(own(2), 20, 35);
}

TEST_CASE_TEMPLATE("grouped products have the same bits for any threads, call and neighbours",
                   T,
                   float,
                   double,
                   BFloat16)
{
  Groups const groups({70, 0, 1, 300, 8, 33}, 3);
  index_t const n = 150, k = 290, experts = groups.experts();
  Rows<T> a(groups, k, true, 1, true), b(groups, n, true, 2, true);
  Buffer<T> w(experts * n * k), bias(experts * n);
  auto const vw = w.real(3).matrices(experts, n, k);
  auto const vb = bias.real(4).matrix(n);

  Buffer<T> c(groups.rows() * n), dw(experts * n * k);
  auto const call = [&](Host const& exec, RowGroups<Host> const& some, Buffer<T>& y, Buffer<T>& d) {
    moe::grouped_gemm_rows(exec, some, a.view(), Transpose::yes, vw, vb, y.matrix(n));
    moe::grouped_gemm_weights(exec, some, b.view(), a.view(), d.matrices(experts, n, k));
  };
  call(own(1), groups.view(), c, dw);

  for (int threads : {1, 2, 5}) {  // all at once, and one call per expert
    CAPTURE(threads);
    Host const exec = own(threads);
    Buffer<T> c_all(groups.rows() * n), dw_all(experts * n * k);
    auto c_each = c_all, dw_each = dw_all;
    call(exec, groups.view(), c_all, dw_all);
    CHECK(c_all.same_bits(c));
    CHECK(dw_all.same_bits(dw));
    for (Id e = 0; e < Id(experts); ++e) {
      call(exec, groups.view().only(e, e + 1), c_each, dw_each);
    }
    CHECK(c_each.same_bits(c));
    CHECK(dw_each.same_bits(dw));
  }
  // dw started as zeros: what overwrites has the same bits, whatever was there.
  Buffer<T> fresh(experts * n * k);
  std::fill(fresh.v.begin(), fresh.v.end(), to<T>(std::numeric_limits<double>::quiet_NaN()));
  moe::grouped_gemm_weights(
      own(2), groups.view(), b.view(), a.view(), fresh.matrices(experts, n, k), Result::overwrite);
  CHECK(fresh.same_bits(dw));

  // Expert 3's rows by themselves, in another order, as they lie: a dense product of them.
  std::vector<Id> order;
  for (Id r = groups.offsets[3]; r < groups.offsets[3] + groups.counts[3]; r += 7) {
    order.insert(order.begin(), r);
  }
  auto const rows = static_cast<index_t>(order.size());
  Buffer<T> few(rows * k), few_c(rows * n);
  for (index_t i = 0; i < rows; ++i) {
    T const* const row = a.view().row(order[static_cast<std::size_t>(i)]);
    if (row != nullptr) { std::copy_n(row, k, few.v.begin() + i * k); }
  }
  std::vector<Id> const few_offsets{0, 0, 0, 0, Id(rows), Id(rows), Id(rows)};
  RowGroups<Host> const some{
      View<Id const, 1, Host>(few_offsets.data(), few_offsets.size()), {}, rows, 0, Id(experts)};
  moe::grouped_gemm_rows(own(2),
                         some,
                         IndexedRows<T, Host>{few.matrix(k), {}},
                         Transpose::yes,
                         vw,
                         vb,
                         few_c.matrix(n));
  for (index_t i = 0; i < rows; ++i) {
    CHECK(std::memcmp(&few_c.matrix(n)(i, 0),
                      &c.matrix(n)(order[static_cast<std::size_t>(i)], 0),
                      static_cast<std::size_t>(n) * sizeof(T)) == 0);
  }
}

TEST_CASE("grouped products refuse extents that do not fit together")
{
  Groups const groups({2, 1}, 0);
  Rows<float> a(groups, 4, false, 1, false);
  Buffer<float> w(2 * 3 * 4), bias(2 * 3), c(3 * 3);
  auto const rows = [&](View<float, 3, Host> vw, View<float, 2, Host> vb, View<float, 2, Host> vc) {
    moe::grouped_gemm_rows(own(1), groups.view(), a.view(), Transpose::yes, vw, vb, vc);
  };
  CHECK_NOTHROW(rows(w.matrices(2, 3, 4), bias.matrix(3), c.matrix(3)));
  CHECK_THROWS_AS(rows(w.matrices(2, 4, 3), bias.matrix(3), c.matrix(3)), moe::ShapeError);
  CHECK_THROWS_AS(rows(w.matrices(2, 2, 4), bias.matrix(3), c.matrix(3)), moe::ShapeError);
  CHECK_THROWS_AS(rows(w.matrices(2, 3, 4), bias.matrix(2), c.matrix(3)), moe::ShapeError);
  auto const weights = [&](View<float, 3, Host> dw) {
    moe::grouped_gemm_weights(own(1), groups.view(), a.view(), a.view(), dw);
  };
  CHECK_THROWS_AS(weights(w.matrices(2, 3, 4)), moe::ShapeError);
  CHECK_THROWS_AS(weights(w.matrices(2, 4, 3)), moe::ShapeError);
}

#if defined(MOE_WITH_CBLAS)
TEST_CASE("grouped products by a BLAS")
{
  Host const exec{{.threads = 2, .products = Products::blas}};
  check_all<float, float, float>(exec, 37, 70);
  check_all<float, float, float>(exec, 37, 0);
  check_all<float, float, float>(exec, 0, 37);
  check_all<double, double, double>(exec, 20, 35);
  check_all<double, float, double>(exec, 20, 35);  // our own after all
}
#endif
