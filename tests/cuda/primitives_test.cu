// The Cuda space's primitives against Host's own, in the same element types: sums differ only in
// their order, so errors are bounded by the type's rounding.
#include "support/cuda_resource.hpp"
#include "support/space.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>

#include <moe/exec/cuda/primitives.cuh>
#include <moe/exec/host/primitives.hpp>

using namespace moe;
using namespace moe::test;

namespace {

Host own_host()
{
  return Host{{.products = Products::own}};
}

template <class T>
double bound()
{
  return std::is_same_v<T, float> ? 2e-6 : std::is_same_v<T, Half> ? 1e-3 : 8e-3;
}

std::vector<index_t> random_integers(index_t n, index_t below, unsigned seed)
{
  std::mt19937_64 random(seed);
  std::vector<index_t> values(static_cast<std::size_t>(n));
  for (auto& v : values) {
    v = static_cast<index_t>(random() % static_cast<std::uint64_t>(below));
  }
  return values;
}

// Ragged groups of L experts: some empty, one large; with gaps after them when padded.
struct Groups {
  std::vector<Id> offsets{0}, counts;
  index_t rows = 0;
  Groups(index_t experts, index_t about, bool padded, unsigned seed)
  {
    auto const size = random_integers(experts, 2 * about + 1, seed);
    index_t widest  = 0;
    for (index_t e = 0; e < experts; ++e) {
      index_t const n = e % 3 == 1         ? 0
                        : e == experts - 1 ? 3 * about
                                           : size[static_cast<std::size_t>(e)];
      counts.push_back(static_cast<Id>(n));
      widest = std::max(widest, n);
    }
    for (index_t e = 0; e < experts; ++e) {
      index_t const n = padded ? widest : counts[static_cast<std::size_t>(e)];
      offsets.push_back(static_cast<Id>(offsets.back() + n));
    }
    rows = offsets.back();
  }
};

template <class ExecT>
struct GroupsIn {
  Tensor<Id, 1, ExecT> offsets, counts;
  RowGroups<ExecT> groups;
  GroupsIn(ExecT const& exec, Groups const& g, bool padded)
      : offsets(put<Id>(exec, g.offsets, static_cast<index_t>(g.offsets.size()))),
        counts(put<Id>(exec, g.counts, static_cast<index_t>(g.counts.size()))),
        groups{offsets.const_view(),
               padded ? counts.const_view() : View<Id const, 1, ExecT>{},
               g.rows,
               0,
               static_cast<Id>(g.counts.size())}
  {
  }
};

// Live rows of c, those of experts' counts; the others may hold anything.
std::vector<double> live(std::vector<double> const& c, Groups const& g, index_t columns)
{
  std::vector<double> rows;
  for (std::size_t e = 0; e < g.counts.size(); ++e) {
    auto const from = c.begin() + g.offsets[e] * columns;
    rows.insert(rows.end(), from, from + g.counts[e] * columns);
  }
  return rows;
}

struct Shape {
  index_t experts, about, n, k;
  bool padded, indexed, biased;
};
Shape const shapes[] = {{1, 1, 2, 2, false, false, false},
                        {5, 37, 33, 17, false, true, true},
                        {8, 130, 136, 72, false, true, false},
                        {3, 200, 256, 128, true, true, true},
                        {40, 9, 64, 40, true, true, true},
                        {7, 64, 130, 264, false, false, true},
                        {2, 300, 520, 136, false, true, false},
                        {33, 5, 7, 8, false, true, true}};

template <class T, class ExecT>
std::vector<double> rows_product(ExecT const& exec, Shape const& s, Transpose tw)
{
  Groups const g(s.experts, s.about, s.padded, 7);
  GroupsIn<ExecT> const in(exec, g, s.padded);
  index_t const base_rows = s.indexed ? g.rows / 2 + 3 : g.rows;
  auto index              = random_integers(g.rows, base_rows + 1, 3);
  for (auto& i : index) {
    i -= 1;  // -1: a row of zeros
  }
  auto const a    = put<T>(exec, normal_numbers(base_rows * s.k, 1), base_rows, s.k);
  auto const at   = put<Id>(exec, index, g.rows);
  auto const w    = tw == Transpose::yes
                        ? put<T>(exec, normal_numbers(s.experts * s.n * s.k, 2), s.experts, s.n, s.k)
                        : put<T>(exec, normal_numbers(s.experts * s.n * s.k, 2), s.experts, s.k, s.n);
  auto const bias = put<T>(exec, normal_numbers(s.experts * s.n, 4), s.experts, s.n);
  Tensor<T, 2, ExecT> c(exec, g.rows, s.n);
  exec.zero(c.view().data_handle(), c.bytes());  // all of it is read back, gaps too
  grouped_gemm_rows(exec,
                    in.groups,
                    IndexedRows<T, ExecT>{a.const_view(),
                                          s.indexed ? at.const_view() : View<Id const, 1, ExecT>{}},
                    tw,
                    w.const_view(),
                    s.biased ? bias.const_view() : View<T const, 2, ExecT>{},
                    c.view());
  return live(get_numbers(exec, c.const_view()), g, s.n);
}

// multiply(groups, g, a, b, dw) into gradients that were `before`.
template <class T, class G, class ExecT, class Multiply>
std::vector<double> weights_into(ExecT const& exec,
                                 Shape const& s,
                                 std::vector<double> const& before,
                                 Multiply const& multiply)
{
  Groups const g(s.experts, s.about, s.padded, 7);
  GroupsIn<ExecT> const in(exec, g, s.padded);
  auto index = random_integers(g.rows, g.rows + 1, 3);
  for (auto& i : index) {
    i -= 1;
  }
  auto const a  = put<T>(exec, normal_numbers(g.rows * s.n, 1), g.rows, s.n);
  auto const b  = put<T>(exec, normal_numbers(g.rows * s.k, 2), g.rows, s.k);
  auto const at = put<Id>(exec, index, g.rows);
  auto dw       = put<G>(exec, before, s.experts, s.n, s.k);
  multiply(in.groups,
           g,
           IndexedRows<T, ExecT>{a.const_view(), at.const_view()},
           IndexedRows<T, ExecT>{b.const_view(), {}},
           dw.view());
  return get_numbers(exec, dw.const_view());
}

// All experts in one call.
template <class ExecT>
struct AtOnce {
  ExecT exec;
  Result result = Result::add;
  void operator()(auto const& groups, Groups const&, auto const& a, auto const& b, auto dw) const
  {
    grouped_gemm_weights(exec, groups, a, b, dw, result);
  }
};
// By the kernel that takes tensor-core elements where no other does.
struct ByUniformWarps {
  Cuda exec;
  Result result;
  void operator()(auto const& groups, Groups const&, auto const& a, auto const& b, auto dw) const
  {
    grouped_gemm_weights<detail::UniformWarps>(exec, groups, a, b, dw, result);
  }
};
// By cuBLAS, expert by expert.
struct ByCublas {
  Cuda exec;
  Result result;
  void operator()(auto const& groups, Groups const& g, auto const& a, auto const& b, auto dw) const
  {
    for (std::size_t e = 0; e < g.counts.size(); ++e) {
      index_t const begin = g.offsets[e];
      auto const one      = groups.only(static_cast<Id>(e), begin, begin + g.counts[e]);
      grouped_gemm_weights(exec, one, a, b, dw, result);
    }
  }
};

template <class T, class G, class ExecT>
std::vector<double> weights_product(ExecT const& exec, Shape const& s)
{
  auto const before = normal_numbers(s.experts * s.n * s.k, 5);
  return weights_into<T, G>(exec, s, before, AtOnce<ExecT>{exec});
}

}  // namespace

// Its architecture is chosen when a program is compiled; the same GPU runs both.
TEST_CASE("products are those of the architecture that this program was built for")
{
  Cuda const cuda;
  auto const kernel = &detail::hopper_rows_kernel<detail::RowsProduct<BFloat16>,
                                                  detail::Major::k,
                                                  detail::HopperTuning>;
#if defined(MOE_TEST_PORTABLE)
  CHECK_FALSE(detail::has_hopper_code(kernel));
#else
  CHECK(detail::has_hopper_code(kernel) == cuda.hopper());
#endif
}

TEST_CASE_TEMPLATE("grouped_gemm_rows equals Host's", T, float, Half, BFloat16)
{
  Host const host = own_host();
  Cuda const cuda;
  for (auto const& s : shapes) {
    for (Transpose const tw : {Transpose::yes, Transpose::no}) {
      CAPTURE(s.experts);
      CAPTURE(s.n);
      CAPTURE(s.k);
      CHECK(relative_error(rows_product<T>(cuda, s, tw), rows_product<T>(host, s, tw)) <
            bound<T>());
    }
  }
}

TEST_CASE_TEMPLATE("grouped_gemm_weights equals Host's, in its own and in float gradients",
                   T,
                   float,
                   Half,
                   BFloat16)
{
  Host const host = own_host();
  Cuda const cuda;
  for (auto const& s : shapes) {
    CAPTURE(s.experts);
    CAPTURE(s.n);
    CAPTURE(s.k);
    CHECK(relative_error(weights_product<T, T>(cuda, s), weights_product<T, T>(host, s)) <
          bound<T>());
    CHECK(relative_error(weights_product<T, float>(cuda, s), weights_product<T, float>(host, s)) <
          2e-6);
  }
}

TEST_CASE_TEMPLATE(
    "grouped_gemm_weights that overwrites gives what is added to zeros, by every kernel",
    T,
    float,
    Half,
    BFloat16)
{
  Cuda const cuda;
  std::vector<Shape> all(std::begin(shapes), std::end(shapes));
  all.push_back({4, 0, 16, 8, false, true, false});  // no rows
  for (auto const& s : all) {
    CAPTURE(s.experts);
    CAPTURE(s.n);
    CAPTURE(s.k);
    auto const size       = static_cast<std::size_t>(s.experts * s.n * s.k);
    auto const difference = [&](auto in_type, auto const& overwrite, auto const& add) {
      using G = decltype(in_type);
      return relative_error(weights_into<T, G>(cuda, s, std::vector<double>(size, NAN), overwrite),
                            weights_into<T, G>(cuda, s, std::vector<double>(size, 0), add));
    };
    auto const each_kernel = [&](auto g, double cublas_bound) {
      auto const add = AtOnce<Cuda>{cuda};
      CHECK(difference(g, AtOnce<Cuda>{cuda, Result::overwrite}, add) == 0);
      CHECK(difference(g, ByUniformWarps{cuda, Result::overwrite}, add) == 0);
      CHECK(difference(g, ByCublas{cuda, Result::overwrite}, ByCublas{cuda, Result::add}) <
            cublas_bound);
    };
    each_kernel(T{}, bound<T>());
    each_kernel(float{}, 2e-6);
  }
}

TEST_CASE("sort_pairs is stable, histogram counts")
{
  Cuda const cuda;
  for (index_t const n : {index_t{0}, index_t{1}, index_t{33}, index_t{4097}, index_t{100003}}) {
    for (index_t const bins : {index_t{1}, index_t{5}, index_t{257}, index_t{20000}}) {
      CAPTURE(n);
      CAPTURE(bins);
      auto const keys = random_integers(n, bins, 11);
      int const bits  = 32 - __builtin_clz(static_cast<unsigned>(bins));
      auto key        = put<std::uint32_t>(cuda, keys, n);
      auto value      = put<Id>(cuda, random_integers(n, 1000, 5), n);
      Tensor<std::uint32_t, 1, Cuda> key_out(cuda, n);
      Tensor<Id, 1, Cuda> value_out(cuda, n);
      auto const values = get(cuda, value.const_view());
      std::vector<std::pair<index_t, Id>> expected;
      for (std::size_t i = 0; i < keys.size(); ++i) {
        expected.emplace_back(keys[i], values[i]);
      }
      std::stable_sort(expected.begin(), expected.end(), [](auto const& a, auto const& b) {
        return a.first < b.first;
      });
      sort_pairs(cuda, bits, key.view(), value.view(), key_out.view(), value_out.view());
      auto const sorted_keys = get(cuda, key_out.const_view());
      auto const sorted      = get(cuda, value_out.const_view());
      bool same              = true;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        same = same && sorted_keys[i] == expected[i].first && sorted[i] == expected[i].second;
      }
      CHECK(same);

      std::vector<Id> count(static_cast<std::size_t>(bins));
      for (auto const k : keys) {
        ++count[static_cast<std::size_t>(k)];
      }
      auto ids = keys;
      if (!ids.empty()) { ids.push_back(-1); }
      ids.push_back(bins);
      Tensor<Id, 1, Cuda> counted(cuda, bins);
      histogram(
          cuda, put<Id>(cuda, ids, static_cast<index_t>(ids.size())).const_view(), counted.view());
      CHECK(get(cuda, counted.const_view()) == count);
    }
  }
}

TEST_CASE_TEMPLATE("sums over rows equal Host's", T, float, Half, BFloat16)
{
  Host const host = own_host();
  Cuda const cuda;
  auto const sum = [](auto const& exec, index_t n, index_t m, Result result) {
    using ExecT  = std::decay_t<decltype(exec)>;
    auto const x = put<T>(exec, normal_numbers(n * m, 1), n, m);
    auto out     = put<float>(exec, normal_numbers(m, 2), m);
    sum_rows(exec, x.const_view(), result, out.view());
    return get_numbers(exec, View<float const, 1, ExecT>(out.const_view()));
  };
  auto const grouped = [](auto const& exec, Shape const& s, Result result) {
    using ExecT = std::decay_t<decltype(exec)>;
    Groups const g(s.experts, s.about, s.padded, 7);
    GroupsIn<ExecT> const in(exec, g, s.padded);
    auto const x      = put<T>(exec, normal_numbers(g.rows * s.n, 1), g.rows, s.n);
    auto const weight = put<float>(exec, normal_numbers(g.rows, 2), g.rows);
    auto before       = normal_numbers(s.experts * s.n, 3);
    if (result == Result::overwrite) { before.assign(before.size(), NAN); }
    auto out = put<float>(exec, before, s.experts, s.n);
    grouped_sum_rows(exec,
                     in.groups,
                     IndexedRows<T, ExecT>{x.const_view(), {}},
                     weight.const_view(),
                     out.view(),
                     result);
    return get_numbers(exec, out.const_view());
  };
  for (Result const result : {Result::overwrite, Result::add}) {
    for (auto const& [n, m] : {std::pair<index_t, index_t>{0, 3}, {1, 1}, {257, 130}, {1000, 7}}) {
      CHECK(relative_error(sum(cuda, n, m, result), sum(host, n, m, result)) < 2e-6);
    }
  }
  for (Result const result : {Result::overwrite, Result::add}) {
    for (auto const& s : shapes) {
      CHECK(relative_error(grouped(cuda, s, result), grouped(host, s, result)) < 2e-6);
    }
  }
}

TEST_CASE_TEMPLATE("gemm equals Host's, mixed element types too, cuBLAS's and the library's own",
                   T,
                   float,
                   Half,
                   BFloat16)
{
  Host const host = own_host();
  Cuda const cublas, own = cublas.with_own_products();
  REQUIRE(own.products() == Products::own);
  REQUIRE(own.stream() == cublas.stream());
  auto const product = [](auto const& exec,
                          Transpose ta,
                          Transpose tb,
                          index_t m,
                          index_t n,
                          index_t k,
                          auto a_type,
                          auto c_type,
                          Result result) {
    using A      = decltype(a_type);
    using C      = decltype(c_type);
    auto const a = ta == Transpose::no ? put<A>(exec, normal_numbers(m * k, 1), m, k)
                                       : put<A>(exec, normal_numbers(m * k, 1), k, m);
    auto const b = tb == Transpose::no ? put<T>(exec, normal_numbers(n * k, 2), k, n)
                                       : put<T>(exec, normal_numbers(n * k, 2), n, k);
    auto c       = put<C>(exec, normal_numbers(m * n, 3), m, n);
    gemm(exec, ta, a.const_view(), tb, b.const_view(), result, c.view());
    return get_numbers(exec, c.const_view());
  };
  for (Cuda const& exec : {cublas, own}) {
    for (Transpose const ta : {Transpose::no, Transpose::yes}) {
      for (Transpose const tb : {Transpose::no, Transpose::yes}) {
        for (Result const result : {Result::overwrite, Result::add}) {
          auto const both = [&](index_t m, index_t n, index_t k, auto a_type, auto c_type) {
            return relative_error(product(exec, ta, tb, m, n, k, a_type, c_type, result),
                                  product(host, ta, tb, m, n, k, a_type, c_type, result));
          };
          CHECK(both(17, 33, 65, T{}, T{}) < bound<T>());
          CHECK(both(128, 8, 64, T{}, float{}) < 2e-6);
          CHECK(both(5, 64, 31, float{}, float{}) < 2e-6);
          CHECK(both(5, 64, 31, float{}, T{}) < bound<T>());
          CHECK(both(70, 130, 20, T{}, float{}) < 2e-6);
          CHECK(both(3, 4, 0, T{}, float{}) < 2e-6);
        }
      }
    }
  }
}

// The one call that cuBLAS gets against the three that it stands for, one for each part of the
// floats, and against double.
TEST_CASE("a float times a BFloat16 on cuBLAS: the error of three products, the same bits again")
{
  Host const host = own_host();
  FillingPool filled(0xff);  // a tool does not see what cuBLAS's kernels of 16-bit types store
  Cuda const cuda(nullptr, {.resource = &filled, .products = Products::blas});
  auto const b16 = [](float v) { return static_cast<float>(BFloat16(v)); };
  struct Case {
    index_t m, n, k;
  };
  // The parts lie along k; along m or n, with one slice of the sum, with several, with a rest.
  for (Case const& s : {Case{1000, 96, 24}, {24, 40, 100}, {24, 96, 5000}, {96, 24, 16384}}) {
    for (Transpose const ta : {Transpose::no, Transpose::yes}) {
      for (Transpose const tb : {Transpose::no, Transpose::yes}) {
        CAPTURE(s.m);
        CAPTURE(s.k);
        CAPTURE(static_cast<int>(ta));
        CAPTURE(static_cast<int>(tb));
        auto const of_a = [&]<class T>(auto const& exec, T, std::vector<double> const& v) {
          return ta == Transpose::no ? put<T>(exec, v, s.m, s.k) : put<T>(exec, v, s.k, s.m);
        };
        auto const of_b = [&]<class T>(auto const& exec, T, std::vector<double> const& v) {
          return tb == Transpose::no ? put<T>(exec, v, s.k, s.n) : put<T>(exec, v, s.n, s.k);
        };
        auto const rounded = [&](std::vector<double> v) {
          for (double& x : v) {
            x = b16(static_cast<float>(x));
          }
          return v;
        };
        auto const floats = [](std::vector<double> v) {
          for (double& x : v) {
            x = static_cast<float>(x);
          }
          return v;
        };
        auto const c_before = floats(normal_numbers(s.m * s.n, 3));
        auto const product  = [&](auto const& exec, auto const& a, auto const& b, auto c_type) {
          auto c = put<decltype(c_type)>(exec, c_before, s.m, s.n);
          gemm(exec, ta, a.const_view(), tb, b.const_view(), Result::add, c.view());
          return get_numbers(exec, c.const_view());
        };
        auto const check = [&](bool a_is_float) {
          auto a_values = normal_numbers(s.m * s.k, 1), b_values = normal_numbers(s.n * s.k, 2);
          a_values         = a_is_float ? floats(a_values) : rounded(a_values);
          b_values         = a_is_float ? rounded(b_values) : floats(b_values);
          auto const exact = product(
              host, of_a(host, double{}, a_values), of_b(host, double{}, b_values), double{});
          auto const once = [&](auto c_type) {
            return a_is_float ? product(cuda,
                                        of_a(cuda, float{}, a_values),
                                        of_b(cuda, BFloat16{}, b_values),
                                        c_type)
                              : product(cuda,
                                        of_a(cuda, BFloat16{}, a_values),
                                        of_b(cuda, float{}, b_values),
                                        c_type);
          };

          auto c    = put<float>(cuda, c_before, s.m, s.n);
          auto rest = a_is_float ? a_values : b_values;
          for (int part = 0; part < 3; ++part) {
            auto const now = rounded(rest);
            auto const a   = of_a(cuda, BFloat16{}, a_is_float ? now : a_values),
                       b   = of_b(cuda, BFloat16{}, a_is_float ? b_values : now);
            gemm(cuda, ta, a.const_view(), tb, b.const_view(), Result::add, c.view());
            for (std::size_t i = 0; i < rest.size(); ++i) {
              rest[i] -= now[i];
            }
          }
          double const three = relative_error(get_numbers(cuda, c.const_view()), exact);
          auto const result  = once(float{});
          double const one   = relative_error(result, exact);
          CAPTURE(a_is_float);
          CAPTURE(three);
          CAPTURE(one);
          // A tensor core rounds sums towards zero after every few numbers of a slice.
          detail::SplitShape const shape(a_is_float ? s.m : s.n, a_is_float ? s.n : s.m, s.k);
          double const bound = 0x1p-24 * (8 + static_cast<double>(shape.slice()) / 8);
          CHECK(one <= std::max(1.1 * three, bound));
          CHECK(once(float{}) == result);
          CHECK(relative_error(once(BFloat16{}), exact) < 4e-3);
          CHECK(relative_error(once(Half{}), exact) < 5e-4);
        };
        check(true);
        check(false);
      }
    }
  }
}
