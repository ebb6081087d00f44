// The warp-specialised kernels against those whose warps are all alike: the same bits, whatever the
// groups, the tuning and the number of blocks.
#include "hopper_cases.cuh"

#include <doctest/doctest.h>

using namespace moe;
using namespace moe::test;

namespace moe::test {

// A wait that hangs ends in a trap instead.
struct Watched : detail::HopperTuning {
  static constexpr bool trap_when_stuck = true;
};
struct Ahead : Watched {
  static constexpr int lead = 2;
};
struct FarAhead : Watched {
  static constexpr int lead = 4;
};
struct ThreeStages : Watched {
  static constexpr int stages = 3, lead = 1;
};
// Never in pairs, and always.
struct Alone : Watched {
  static constexpr index_t pairs_to = 0;
};
using Paired = detail::InPairs<Watched>;

}  // namespace moe::test

namespace {

template <class T>
class Product {
 public:
  Product(Cuda const& exec, Layout const& layout, index_t n, index_t k, Transpose tw, bool indexed)
      : exec_{exec},
        tw_{tw},
        placed_(exec, layout, indexed ? layout.rows() / 2 + 3 : layout.rows()),
        groups{placed_.groups}
  {
    index_t const experts = groups.experts(), rows = groups.rows;
    a_    = filled<T>(exec, indexed ? rows / 2 + 3 : rows, k, 1);
    w_    = filled<T>(exec, experts * n, k, 2);
    bias_ = filled<T>(exec, experts, n, 3);
    c_    = Tensor<T, 2, Cuda>(exec, rows, n);
    if (!indexed) { PlacedRows::fill_unused(exec, layout, a_); }
    rows_   = {a_.const_view(), indexed ? placed_.index() : View<Id const, 1, Cuda>{}};
    w_view_ = tw == Transpose::yes
                  ? View<T const, 3, Cuda>(w_.const_view().data_handle(), experts, n, k)
                  : View<T const, 3, Cuda>(w_.const_view().data_handle(), experts, k, n);
  }

  template <class KernelT>
  std::vector<T> by(Cuda const& exec, bool biased)
  {
    fill_with_nan(exec, c_);
    grouped_gemm_rows<KernelT>(exec,
                               groups,
                               rows_,
                               tw_,
                               w_view_,
                               biased ? bias_.const_view() : View<T const, 2, Cuda>{},
                               c_.view());
    return get(exec, c_.const_view());
  }
  // Whether the warp-specialised kernel takes it; its results are left in c.
  template <class KernelT>
  bool taken()
  {
    detail::GroupedProduct<T, T, T> const p{
        groups,
        {a_.view().data_handle(), a_.view().extent(1), rows_.index.data_handle()},
        {w_view_.data_handle(), w_view_.extent(2), nullptr},
        0,
        c_.view().extent(1),
        a_.view().extent(1),
        w_view_.extent(1),
        nullptr,
        c_.view().data_handle()};
    return detail::hopper_grouped_rows<KernelT>(
        exec_, p, a_.view().extent(0), tw_, w_view_.extent(0), "test");
  }

 private:
  Cuda exec_;
  Transpose tw_;
  PlacedRows placed_;

 public:
  RowGroups<Cuda> groups;

 private:
  Tensor<T, 2, Cuda> a_, w_, bias_, c_;
  IndexedRows<T, Cuda> rows_;
  View<T const, 3, Cuda> w_view_;
};

struct Extents {
  index_t n, k;
};
Extents const extents[] = {{256, 64},
                           {256, 72},
                           {256, 128},
                           {512, 768},
                           {96, 40},
                           {40, 96},
                           {8, 8},
                           {264, 136},
                           {2880, 96},
                           {96, 2880}};

}  // namespace

TEST_CASE("the warp-specialised kernel runs where its code is")
{
  Cuda const exec;
  Product<BFloat16> product(exec, layouts()[0], 264, 136, Transpose::yes, true);
  CHECK(product.taken<Watched>() == exec.hopper());
  exec.synchronize();
}

TEST_CASE_TEMPLATE("rows have the same bits as by uniform warps", T, BFloat16, Half)
{
  Cuda const exec;
  for (auto const& layout : layouts()) {
    CAPTURE(layout.name);
    for (auto const& [n, k] : extents) {
      CAPTURE(n);
      CAPTURE(k);
      for (int how = 0; how < 4; ++how) {
        CAPTURE(how);
        auto const tw      = how & 1 ? Transpose::no : Transpose::yes;
        bool const indexed = (how & 2) != 0;
        Product<T> product(exec, layout, n, k, tw, indexed);
        bool const biased   = (n + how) % 3 != 0;
        auto const expected = product.template by<detail::UniformWarps>(exec, biased);
        REQUIRE(same_bits(product.template by<Alone>(exec, biased), expected));
        REQUIRE(same_bits(product.template by<Paired>(exec, biased), expected));
        // So few blocks that each takes many tiles.
        Cuda const three = exec.sparing(exec.multiprocessors() - 3);
        REQUIRE(same_bits(product.template by<Alone>(three, biased), expected));
        REQUIRE(same_bits(product.template by<Paired>(three, biased), expected));
      }
    }
  }
}

TEST_CASE("some of the experts alone")
{
  Cuda const exec;
  Product<BFloat16> product(exec, layouts()[0], 264, 136, Transpose::yes, true);
  product.groups      = product.groups.only(37, 80);
  auto const expected = product.by<detail::UniformWarps>(exec, true);
  CHECK(same_bits(product.by<Watched>(exec, true), expected));
}

TEST_CASE_TEMPLATE("no tuning and no run changes bits",
                   TuningT,
                   Watched,
                   Ahead,
                   FarAhead,
                   ThreeStages,
                   Alone,
                   Paired,
                   detail::InPairs<Ahead>)
{
  Cuda const exec;
  for (auto const& layout : layouts()) {
    CAPTURE(layout.name);
    for (Transpose const tw : {Transpose::yes, Transpose::no}) {
      for (bool const indexed : {false, true}) {
        for (auto const& [n, k] : {Extents{520, 200}, Extents{264, 72}}) {
          Product<BFloat16> product(exec, layout, n, k, tw, indexed);
          auto const expected = product.by<detail::UniformWarps>(exec, false);
          for (int run = 0; run < 20; ++run) {
            Cuda const some = exec.sparing(run % 2 == 0 ? 0 : exec.multiprocessors() - 2);
            REQUIRE(same_bits(product.by<TuningT>(some, false), expected));
          }
        }
      }
    }
  }
}

TEST_CASE("extents that rows of 16 bytes do not have are another kernel's")
{
  Cuda const exec;
  for (auto const& [n, k] : {Extents{100, 64}, Extents{64, 100}}) {
    Product<BFloat16> product(exec, layouts()[2], n, k, Transpose::yes, false);
    auto const expected = product.by<detail::UniformWarps>(exec, true);
    CHECK(same_bits(product.by<Watched>(exec, true), expected));
  }
}
