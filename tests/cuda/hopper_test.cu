// The warp-specialised kernels against those whose warps are all alike: the same bits, whatever the
// groups, the tuning and the number of blocks.
#include "hopper_cases.cuh"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

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
struct TwoStages : Watched {
  static constexpr int stages = 2, lead = 1;
};

}  // namespace moe::test

namespace {

template <class T>
class Product {
 public:
  Product(Cuda const& exec, Layout const& layout, index_t n, index_t k, Transpose tw, bool indexed)
      : exec_{exec}, tw_{tw}
  {
    std::vector<index_t> offsets{0};
    for (index_t const count : layout.counts) {
      offsets.push_back(offsets.back() + count + layout.padding);
    }
    auto const experts = static_cast<index_t>(layout.counts.size());
    index_t const rows = offsets.back(), base_rows = indexed ? rows / 2 + 3 : rows;
    std::vector<index_t> index;
    for (std::size_t e = 0; e < layout.counts.size(); ++e) {
      for (index_t i = 0; i < layout.counts[e] + layout.padding; ++i) {
        index_t const r = offsets[e] + i;
        index.push_back(i >= layout.counts[e] ? index_t{1} << 30
                                              : r * 7919 % (base_rows + 1) - 1);  // -1: zeros
      }
    }
    offsets_ = put<Id>(exec, offsets, experts + 1);
    counts_  = put<Id>(exec, layout.counts, experts);
    index_   = put<Id>(exec, index, rows);
    a_       = filled<T>(exec, base_rows, k, 1);
    w_       = filled<T>(exec, experts * n, k, 2);
    bias_    = filled<T>(exec, experts, n, 3);
    c_       = Tensor<T, 2, Cuda>(exec, rows, n);
    if (!indexed && layout.padding > 0) {  // unused slots must not show
      for (std::size_t e = 0; e < layout.counts.size(); ++e) {
        index_t const from = offsets[e] + layout.counts[e];
        MOE_CUDA_TRY(cudaMemsetAsync(a_.view().data_handle() + from * k,
                                     0xff,
                                     static_cast<std::size_t>(layout.padding * k) * sizeof(T),
                                     exec.stream()));
      }
    }
    groups  = {offsets_.const_view(),
              layout.padding > 0 ? counts_.const_view() : View<Id const, 1, Cuda>{},
               rows,
               0,
               static_cast<Id>(experts)};
    rows_   = {a_.const_view(), indexed ? index_.const_view() : View<Id const, 1, Cuda>{}};
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

  RowGroups<Cuda> groups;

 private:
  Cuda exec_;
  Transpose tw_;
  Tensor<Id, 1, Cuda> offsets_, counts_, index_;
  Tensor<T, 2, Cuda> a_, w_, bias_, c_;
  IndexedRows<T, Cuda> rows_;
  View<T const, 3, Cuda> w_view_;
};

template <class T>
bool same_bits(std::vector<T> const& a, std::vector<T> const& b)
{
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

struct Extents {
  index_t n, k;
};
Extents const extents[] = {
    {256, 64}, {512, 768}, {96, 40}, {40, 96}, {8, 8}, {264, 136}, {2880, 96}, {96, 2880}};

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
        REQUIRE(same_bits(product.template by<Watched>(exec, biased), expected));
        // So few blocks that each takes many tiles.
        Cuda const three = exec.sparing(exec.multiprocessors() - 3);
        REQUIRE(same_bits(product.template by<Watched>(three, biased), expected));
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

TEST_CASE_TEMPLATE(
    "no tuning and no run changes bits", TuningT, Watched, Ahead, FarAhead, TwoStages)
{
  Cuda const exec;
  for (auto const& layout : layouts()) {
    CAPTURE(layout.name);
    for (Transpose const tw : {Transpose::yes, Transpose::no}) {
      for (bool const indexed : {false, true}) {
        for (auto const& [n, k] : {Extents{520, 200}, Extents{264, 64}}) {
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
