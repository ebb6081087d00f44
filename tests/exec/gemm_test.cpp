#include <moe/core/tensor.hpp>
#include <moe/exec/host/gemm.hpp>
#include <moe/exec/split_shape.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using moe::BFloat16, moe::Half, moe::Host, moe::index_t, moe::Products, moe::Result, moe::Tensor,
    moe::Transpose, moe::View;

namespace {

template <class T>
T to(double value)
{
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value);
  } else {
    return T(static_cast<float>(value));
  }
}

// Whole numbers in [-2, 2]: sums are exact, so a result must equal the reference to the last bit.
template <class T>
std::vector<T> whole_numbers(index_t n, unsigned seed)
{
  std::minstd_rand random(seed + 1);
  std::vector<T> values(static_cast<std::size_t>(n));
  for (auto& v : values) {
    v = to<T>(static_cast<double>(random() / 7 % 5) - 2);
  }
  return values;
}

template <class T>
std::vector<T> real_numbers(index_t n, unsigned seed)
{
  std::minstd_rand random(seed + 1);
  std::uniform_real_distribution<double> distribution(-1, 1);
  std::vector<T> values(static_cast<std::size_t>(n));
  for (auto& v : values) {
    v = to<T>(distribution(random));
  }
  return values;
}

template <class T>
View<T, 2, Host> matrix(std::vector<T>& v, index_t rows, index_t columns)
{
  return View<T, 2, Host>(v.data(), rows, columns);
}

template <class T>
bool same_bits(std::vector<T> const& a, std::vector<T> const& b)
{
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

struct Shape {
  index_t m, n, k;
  Transpose ta, tb;
  Result result;
};

// How many elements of gemm's result differ from the plain sum.
template <class A, class B, class C>
index_t wrong_elements(Host const& exec, Shape s)
{
  bool const at = s.ta == Transpose::yes, bt = s.tb == Transpose::yes;
  auto a     = whole_numbers<A>(s.m * s.k, 1);
  auto b     = whole_numbers<B>(s.k * s.n, 2);
  auto c     = whole_numbers<C>(s.m * s.n, 3);
  auto old   = c;
  auto in_a  = matrix(a, at ? s.k : s.m, at ? s.m : s.k);
  auto in_b  = matrix(b, bt ? s.n : s.k, bt ? s.k : s.n);
  auto out_c = matrix(c, s.m, s.n);
  moe::gemm(exec, s.ta, in_a, s.tb, in_b, s.result, out_c);
  index_t wrong = 0;
  for (index_t i = 0; i < s.m; ++i) {
    for (index_t j = 0; j < s.n; ++j) {
      double sum =
          s.result == Result::add ? double(old[static_cast<std::size_t>(i * s.n + j)]) : 0.0;
      for (index_t k = 0; k < s.k; ++k) {
        sum += double(at ? in_a(k, i) : in_a(i, k)) * double(bt ? in_b(j, k) : in_b(k, j));
      }
      wrong += double(out_c(i, j)) != double(to<C>(sum));
    }
  }
  return wrong;
}

constexpr index_t extents[]{0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 257};

Shape shape(index_t m, index_t n, index_t k, int variant)
{
  return {m,
          n,
          k,
          variant & 1 ? Transpose::yes : Transpose::no,
          variant & 2 ? Transpose::yes : Transpose::no,
          variant & 4 ? Result::add : Result::overwrite};
}

Host own(int threads)
{
  return Host{{.threads = threads, .products = Products::own}};
}

}  // namespace

TEST_CASE("gemm equals the plain sum on edges of every tile, block and transpose")
{
  Host const exec = own(2);
  index_t wrong   = 0;
  int variant     = 0;
  for (index_t m : extents) {
    for (index_t n : extents) {
      for (index_t k : extents) {
        variant += 3;  // walks through all eight
        if (m * n * k > 129 * 129 * 129) { continue; }
        wrong += wrong_elements<float, float, float>(exec, shape(m, n, k, variant));
      }
    }
  }
  CHECK(wrong == 0);
  for (variant = 0; variant < 8; ++variant) {
    CAPTURE(variant);
    CHECK(wrong_elements<float, float, float>(exec, shape(257, 129, 257, variant)) == 0);
    CHECK(wrong_elements<float, float, float>(exec, shape(33, 1100, 17, variant)) == 0);
    CHECK(wrong_elements<float, float, float>(exec, shape(601, 7, 31, variant)) == 0);
    CHECK(wrong_elements<float, float, float>(exec, shape(7, 8, 1027, variant)) == 0);
  }
}

TEST_CASE_TEMPLATE("gemm of one element type", T, float, double, Half, BFloat16)
{
  Host const exec = own(2);
  for (int variant = 0; variant < 8; ++variant) {
    CAPTURE(variant);
    CHECK(wrong_elements<T, T, T>(exec, shape(17, 33, 65, variant)) == 0);
    CHECK(wrong_elements<T, T, T>(exec, shape(64, 65, 31, variant)) == 0);
    CHECK(wrong_elements<T, T, T>(exec, shape(5, 7, 0, variant)) == 0);
  }
}

TEST_CASE("gemm of mixed element types")
{
  Host const exec = own(1);
  for (int variant = 0; variant < 8; ++variant) {
    CAPTURE(variant);
    Shape const s = shape(19, 37, 70, variant);
    CHECK(wrong_elements<BFloat16, BFloat16, float>(exec, s) == 0);
    CHECK(wrong_elements<Half, float, Half>(exec, s) == 0);
    CHECK(wrong_elements<float, BFloat16, Half>(exec, s) == 0);
    CHECK(wrong_elements<double, float, BFloat16>(exec, s) == 0);
    CHECK(wrong_elements<Half, Half, double>(exec, s) == 0);
    CHECK(wrong_elements<float, float, double>(exec, s) == 0);
  }
}

TEST_CASE("gemm reads and writes through any mix of const and non-const views")
{
  Host const exec = own(1);
  std::vector<float> a{1, 2}, b{3, 4}, c{0};
  auto const va = matrix(a, 1, 2), vb = matrix(b, 2, 1), vc = matrix(c, 1, 1);
  View<float const, 2, Host> const const_a = va;
  moe::gemm(exec, Transpose::no, const_a, Transpose::no, vb, Result::overwrite, vc);
  CHECK(c[0] == 11);
  moe::gemm(exec, Transpose::no, va, Transpose::no, vb, Result::add, vc);
  CHECK(c[0] == 22);
}

TEST_CASE("gemm sums in double where an operand is double, and rounds once")
{
  Host const exec = own(1);
  {
    std::vector<float> a{16777216.f, 1.f, -16777216.f}, b{1, 1, 1};
    std::vector<double> c{0};
    moe::gemm(exec,
              Transpose::no,
              matrix(a, 1, 3),
              Transpose::no,
              matrix(b, 3, 1),
              Result::overwrite,
              matrix(c, 1, 1));
    CHECK(c[0] == 1);
  }
  {  // just above a tie of Half: by way of the nearest float it would be the tie, and go down
    std::vector<double> a{1, 0x1p-11, 0x1p-40}, b{1, 1, 1};
    std::vector<Half> c(1);
    auto const product = [&] {
      moe::gemm(exec,
                Transpose::no,
                matrix(a, 1, 3),
                Transpose::no,
                matrix(b, 3, 1),
                Result::overwrite,
                matrix(c, 1, 1));
      return static_cast<double>(float(c[0]));
    };
    CHECK(product() == 1 + 0x1p-10);
    a[2] = 0;
    CHECK(product() == 1);
    a = {1 + 0x1p-10, 0x1p-11, -0x1p-40};
    CHECK(product() == 1 + 0x1p-10);
    a = {-1, -0x1p-11, -0x1p-40};
    CHECK(product() == -1 - 0x1p-10);
  }
}

TEST_CASE_TEMPLATE(
    "an element has the same bits for any threads, rows and call", T, float, double, BFloat16)
{
  index_t const m = 389, n = 323, k = 771;
  auto a = real_numbers<T>(m * k, 1);
  auto b = real_numbers<T>(n * k, 2);
  std::vector<T> c(static_cast<std::size_t>(m * n));
  auto const product = [&](Host const& exec) {
    moe::gemm(exec,
              Transpose::no,
              matrix(a, m, k),
              Transpose::yes,
              matrix(b, n, k),
              Result::overwrite,
              matrix(c, m, n));
  };
  product(own(1));
  auto const expected = c;
  for (int threads : {2, 5, 2}) {
    std::fill(c.begin(), c.end(), T{});
    product(own(threads));
    CHECK(same_bits(c, expected));
  }

  // Any rows alone, in another order, against any columns alone.
  std::minstd_rand random(7);
  for (index_t rows : {1, 3, 40}) {
    CAPTURE(rows);
    index_t const columns = rows + 2;
    std::vector<index_t> row, column;
    std::vector<T> few_a, few_b, few_c(static_cast<std::size_t>(rows * columns)), few_expected;
    for (index_t i = 0; i < rows; ++i) {
      row.push_back(static_cast<index_t>(random()) % m);
      few_a.insert(few_a.end(), a.begin() + row.back() * k, a.begin() + (row.back() + 1) * k);
    }
    for (index_t j = 0; j < columns; ++j) {
      column.push_back(static_cast<index_t>(random()) % n);
      few_b.insert(few_b.end(), b.begin() + column.back() * k, b.begin() + (column.back() + 1) * k);
    }
    for (index_t i : row) {
      for (index_t j : column) {
        few_expected.push_back(expected[static_cast<std::size_t>(i * n + j)]);
      }
    }
    moe::gemm(own(2),
              Transpose::no,
              matrix(few_a, rows, k),
              Transpose::yes,
              matrix(few_b, columns, k),
              Result::overwrite,
              matrix(few_c, rows, columns));
    CHECK(same_bits(few_c, few_expected));
  }
}

TEST_CASE("gemm spreads a NaN over its row and no further")
{
  index_t const m = 21, n = 35, k = 19;
  auto a        = whole_numbers<float>(m * k, 1);
  auto b        = whole_numbers<float>(n * k, 2);
  auto c        = whole_numbers<float>(m * n, 3);
  a[5 * k + 18] = std::numeric_limits<float>::quiet_NaN();
  c[0]          = std::numeric_limits<float>::quiet_NaN();  // overwritten, so not read
  auto const vc = matrix(c, m, n);
  moe::gemm(own(1),
            Transpose::no,
            matrix(a, m, k),
            Transpose::yes,
            matrix(b, n, k),
            Result::overwrite,
            vc);
  for (index_t i = 0; i < m; ++i) {
    for (index_t j = 0; j < n; ++j) {
      CHECK((vc(i, j) != vc(i, j)) == (i == 5));
    }
  }
}

TEST_CASE("gemm refuses extents that do not fit together")
{
  Host const exec = own(1);
  std::vector<float> v(64);
  auto const product = [&](View<float, 2, Host> a, View<float, 2, Host> b, View<float, 2, Host> c) {
    moe::gemm(exec, Transpose::no, a, Transpose::no, b, Result::overwrite, c);
  };
  CHECK_NOTHROW(product(matrix(v, 2, 3), matrix(v, 3, 4), matrix(v, 2, 4)));
  CHECK_THROWS_AS(product(matrix(v, 2, 3), matrix(v, 2, 4), matrix(v, 2, 4)), moe::ShapeError);
  CHECK_THROWS_AS(product(matrix(v, 2, 3), matrix(v, 3, 4), matrix(v, 3, 4)), moe::ShapeError);
  CHECK_THROWS_AS(product(matrix(v, 2, 3), matrix(v, 3, 4), matrix(v, 2, 3)), moe::ShapeError);
}

#if defined(MOE_WITH_CBLAS)
TEST_CASE_TEMPLATE("gemm by a BLAS", T, float, double)
{
  Host const exec{{.threads = 2, .products = Products::blas}};
  for (int variant = 0; variant < 8; ++variant) {
    CAPTURE(variant);
    CHECK(wrong_elements<T, T, T>(exec, shape(17, 33, 65, variant)) == 0);
    CHECK(wrong_elements<T, T, T>(exec, shape(1, 1, 1, variant)) == 0);
    CHECK(wrong_elements<T, T, T>(exec, shape(5, 7, 0, variant)) == 0);
    CHECK(wrong_elements<T, T, T>(exec, shape(0, 7, 3, variant)) == 0);
    CHECK(wrong_elements<T, T, T>(exec, shape(5, 0, 3, variant)) == 0);
    CHECK(wrong_elements<T, Half, T>(exec, shape(5, 6, 3, variant)) == 0);
  }
}
#endif

TEST_CASE("a split product: what is made beside it, and how its sum over k is cut")
{
  using moe::detail::split_tuning;
  for (index_t const outer : {0, 1, 24, 128, 32768}) {
    for (index_t const other : {0, 1, 2048, 7168}) {
      for (index_t const k : {1, 128, 2047, 2048, 5000, 32768, 40001}) {
        CAPTURE(outer);
        CAPTURE(other);
        CAPTURE(k);
        moe::detail::SplitShape const s(outer, other, k);
        index_t const done = s.slices * s.slice();
        CHECK(s.parts() == 3 * outer * k);
        CHECK(s.along_k == (k <= outer));
        if (s.along_k) {
          CHECK(s.copies() == 3 * other * k);
          CHECK(s.results() == 0);
        } else {
          CHECK(s.copies() == 0);
          CHECK(s.results() == s.slices * 3 * outer * other);
        }
        CHECK(done <= k);
        CHECK(k - done < 8 * s.slices);
        if (s.slices == 1) {
          CHECK(done == k);
        } else {
          CHECK(s.slice() % 8 == 0);
          CHECK(k / s.slices >= split_tuning.slice);
          CHECK(s.slices <= split_tuning.slices);
          CHECK(s.results() <= split_tuning.results);
        }
      }
    }
  }
  CHECK(moe::detail::SplitShape(128, 2048, 32768).slices == 8);  // a gate of 128 experts
  CHECK(moe::detail::SplitShape(8, 4096, 8192).slices == 8);
}
