// The warp-specialised product of weights' gradients against that whose warps are all alike: the
// same bits, whatever the groups, the tuning and the number of blocks.
#include "hopper_cases.cuh"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <type_traits>

using namespace moe;
using namespace moe::test;

namespace moe::test {

// A wait that hangs ends in a trap instead.
struct Watched : detail::WeightsTuning {
  static constexpr bool trap_when_stuck = true;
};
struct Together : Watched {
  static constexpr int lead = 0, old_ahead = 0;
};
struct FarAhead : Watched {
  static constexpr int lead = 4, old_ahead = 50;
};
struct ThreeStages : Watched {
  static constexpr int stages = 3, lead = 3;
};
struct TwoStages : Watched {
  static constexpr int stages = 2, lead = 2, old_ahead = 1;
};

}  // namespace moe::test

namespace {

// A row's elements that differ in bits, or are no numbers.
template <class G>
struct CountDifferent {
  View<G const, 2, Cuda> a, b;
  View<Id, 1, Cuda> different;  // one per row
  template <Team TeamT>
  MOE_HOST_DEVICE void operator()(TeamT team, index_t i) const
  {
    int count = 0;
    for (index_t j = team.lane(); j < a.extent(1); j += team.size()) {
      using Bits    = std::conditional_t<sizeof(G) == 2, std::uint16_t, std::uint32_t>;
      float const x = static_cast<float>(a(i, j));
      if (bit_cast<Bits>(a(i, j)) != bit_cast<Bits>(b(i, j)) || x != x) { ++count; }
    }
    count = static_cast<int>(team.sum(static_cast<float>(count)));
    if (team.lane() == 0) { different(i) = count; }
  }
};

// Which of the operands are found through an index.
enum class Gathered { none, a, b, both };
Gathered const ways[] = {Gathered::none, Gathered::a, Gathered::b, Gathered::both};

template <class T>
struct Operand {
  Tensor<T, 2, Cuda> base;
  Tensor<Id, 1, Cuda> index;
  IndexedRows<T, Cuda> rows;
};

// Gradients of (M, N) of experts' weights, as they were before, and operands of which all that no
// expert has is no number.
template <class T, class G>
class Gradients {
 public:
  // Operands are below `scale`, and the gradients before below scale^2.
  Gradients(Cuda const& exec,
            Layout const& layout,
            index_t m,
            index_t n,
            Gathered gathered,
            float scale = 1)
      : exec_{exec},
        experts_{static_cast<index_t>(layout.counts.size())},
        m_{m},
        n_{n},
        scale_{scale}
  {
    std::vector<index_t> offsets{0};
    for (index_t const count : layout.counts) {
      offsets.push_back(offsets.back() + count + layout.padding);
    }
    offsets_ = put<Id>(exec, offsets, experts_ + 1);
    counts_  = put<Id>(exec, layout.counts, experts_);
    a_      = operand(layout, offsets, m, gathered == Gathered::a || gathered == Gathered::both, 1);
    b_      = operand(layout, offsets, n, gathered == Gathered::b || gathered == Gathered::both, 2);
    before_ = filled<G>(exec, experts_ * m, n, 3, scale * scale);
    groups  = {offsets_.const_view(),
              layout.padding > 0 ? counts_.const_view() : View<Id const, 1, Cuda>{},
               offsets.back(),
               0,
               static_cast<Id>(experts_)};
  }

  // Adds twice, as two micro-batches do.
  template <class KernelT>
  Tensor<G, 2, Cuda> by(Cuda const& exec) const
  {
    Tensor<G, 2, Cuda> dw(exec_, experts_ * m_, n_);
    MOE_CUDA_TRY(cudaMemcpyAsync(dw.view().data_handle(),
                                 before_.const_view().data_handle(),
                                 dw.bytes(),
                                 cudaMemcpyDeviceToDevice,
                                 exec_.stream()));
    for (int batch = 0; batch < 2; ++batch) {
      grouped_gemm_weights<KernelT>(exec, groups, a_.rows, b_.rows, matrices(dw));
    }
    return dw;
  }
  // What overwriting gives: by uniform warps, which add to zeros.
  Tensor<G, 2, Cuda> alone() const
  {
    Tensor<G, 2, Cuda> dw(exec_, experts_ * m_, n_);
    exec_.zero(dw.view().data_handle(), dw.bytes());
    grouped_gemm_weights<detail::UniformWarps>(exec_, groups, a_.rows, b_.rows, matrices(dw));
    return dw;
  }
  // Where there is no such kernel, what was there before: no numbers.
  template <class KernelT>
  Tensor<G, 2, Cuda> overwritten(Cuda const& exec) const
  {
    Tensor<G, 2, Cuda> dw(exec_, experts_ * m_, n_);
    fill_with_nan(exec_, dw);
    take<KernelT>(exec, dw, Result::overwrite);
    return dw;
  }
  template <class KernelT>
  bool taken() const
  {
    auto dw         = by<detail::UniformWarps>(exec_);
    bool const took = take<KernelT>(exec_, dw, Result::add);
    exec_.synchronize();
    return took;
  }
  [[nodiscard]] Tensor<G, 2, Cuda> const& before() const { return before_; }
  [[nodiscard]] index_t rows_of_expert() const { return m_; }

  RowGroups<Cuda> groups;

 private:
  Operand<T> operand(Layout const& layout,
                     std::vector<index_t> const& offsets,
                     index_t columns,
                     bool indexed,
                     std::uint32_t seed) const
  {
    index_t const rows = offsets.back(), live = indexed ? rows / 2 + 3 : rows, beyond = 70;
    Operand<T> made;
    made.base = filled<T>(exec_, live + beyond, columns, seed, scale_);
    nan_rows(made.base, live, beyond);
    std::vector<index_t> index;
    for (std::size_t e = 0; e < layout.counts.size(); ++e) {
      for (index_t i = 0; i < layout.counts[e] + layout.padding; ++i) {
        index_t const r = offsets[e] + i;
        index.push_back(i >= layout.counts[e]
                            ? index_t{1} << 30
                            : r * (7919 + static_cast<index_t>(seed)) % (live + 1) -
                                  1);  // -1: zeros
      }
      if (!indexed && layout.padding > 0) {
        nan_rows(made.base, offsets[e] + layout.counts[e], layout.padding);
      }
    }
    made.index = put<Id>(exec_, index, rows);
    made.rows  = {made.base.const_view(),
                 indexed ? made.index.const_view() : View<Id const, 1, Cuda>{}};
    return made;
  }
  void nan_rows(Tensor<T, 2, Cuda>& x, index_t from, index_t rows) const
  {
    index_t const columns = x.view().extent(1);
    MOE_CUDA_TRY(cudaMemsetAsync(x.view().data_handle() + from * columns,
                                 0xff,
                                 static_cast<std::size_t>(rows * columns) * sizeof(T),
                                 exec_.stream()));
  }
  View<G, 3, Cuda> matrices(Tensor<G, 2, Cuda>& dw) const
  {
    return View<G, 3, Cuda>(dw.view().data_handle(), experts_, m_, n_);
  }

  template <class KernelT>
  bool take(Cuda const& exec, Tensor<G, 2, Cuda>& dw, Result result) const
  {
    detail::GroupedProduct<T, T, G> const p{
        groups,
        {a_.rows.base.data_handle(), m_, a_.rows.index.data_handle()},
        {b_.rows.base.data_handle(), n_, b_.rows.index.data_handle()},
        m_,
        n_,
        0,
        m_,
        nullptr,
        dw.view().data_handle(),
        result};
    return detail::hopper_grouped_weights<KernelT>(
        exec, p, a_.rows.base.extent(0), b_.rows.base.extent(0), "test");
  }

  Cuda exec_;
  index_t experts_, m_, n_;
  float scale_;
  Tensor<Id, 1, Cuda> offsets_, counts_;
  Operand<T> a_, b_;
  Tensor<G, 2, Cuda> before_;
};

// How many elements of each row differ.
template <class G>
std::vector<Id> different(Cuda const& exec,
                          Tensor<G, 2, Cuda> const& a,
                          Tensor<G, 2, Cuda> const& b)
{
  index_t const rows = a.const_view().extent(0);
  Tensor<Id, 1, Cuda> count(exec, rows);
  exec.for_each_row(rows, CountDifferent<G>{a.const_view(), b.const_view(), count.view()});
  return get(exec, count.const_view());
}
template <class G>
bool same_numbers(Cuda const& exec, Tensor<G, 2, Cuda> const& a, Tensor<G, 2, Cuda> const& b)
{
  auto const counts = different(exec, a, b);
  return std::all_of(counts.begin(), counts.end(), [](Id count) { return count == 0; });
}

struct Extents {
  index_t m, n;
};
Extents const extents[] = {{8, 8},
                           {40, 2880},
                           {2880, 40},
                           {96, 264},
                           {264, 96},
                           {136, 768},
                           {768, 136},
                           {64, 256},
                           {200, 520}};

std::vector<Layout> weights_layouts()
{
  auto all         = layouts();
  Layout and_more  = all[0];
  and_more.name    = "every length from 0 to 129, padded";
  and_more.padding = 3;
  all.push_back(and_more);
  return all;
}

}  // namespace

TEST_CASE("the warp-specialised product of gradients runs where its code is")
{
  Cuda const exec;
  for (Gathered const gathered : ways) {
    Gradients<BFloat16, float> const product(exec, layouts()[0], 264, 136, gathered);
    CHECK(product.taken<Watched>() == exec.hopper());
  }
}

TEST_CASE_TEMPLATE("gradients have the same bits as by uniform warps",
                   Types,
                   std::tuple<BFloat16, BFloat16>,
                   std::tuple<BFloat16, float>,
                   std::tuple<Half, Half>,
                   std::tuple<Half, float>)
{
  using T = std::tuple_element_t<0, Types>;
  using G = std::tuple_element_t<1, Types>;
  Cuda const exec;
  for (auto const& layout : weights_layouts()) {
    CAPTURE(layout.name);
    for (auto const& [m, n] : extents) {
      CAPTURE(m);
      CAPTURE(n);
      for (Gathered const gathered : ways) {
        CAPTURE(static_cast<int>(gathered));
        Gradients<T, G> const product(exec, layout, m, n, gathered);
        auto const expected = product.template by<detail::UniformWarps>(exec);
        REQUIRE(same_numbers(exec, product.template by<Watched>(exec), expected));
        // So few blocks that each takes many tiles.
        Cuda const three = exec.sparing(exec.multiprocessors() - 3);
        REQUIRE(same_numbers(exec, product.template by<Watched>(three), expected));
      }
    }
  }
}

TEST_CASE_TEMPLATE("gradients that are overwritten are those that were zeros before",
                   Types,
                   std::tuple<BFloat16, BFloat16>,
                   std::tuple<BFloat16, float>,
                   std::tuple<Half, Half>,
                   std::tuple<Half, float>)
{
  using T = std::tuple_element_t<0, Types>;
  using G = std::tuple_element_t<1, Types>;
  Cuda const exec;
  if (!exec.hopper()) { return; }  // another kernel's test
  for (auto const& layout : weights_layouts()) {
    CAPTURE(layout.name);
    for (auto const& [m, n] : extents) {
      CAPTURE(m);
      CAPTURE(n);
      for (Gathered const gathered : {Gathered::none, Gathered::both}) {
        CAPTURE(static_cast<int>(gathered));
        Gradients<T, G> const product(exec, layout, m, n, gathered);
        auto const expected = product.alone();
        REQUIRE(same_numbers(exec, product.template overwritten<Watched>(exec), expected));
        Cuda const three = exec.sparing(exec.multiprocessors() - 3);
        REQUIRE(same_numbers(exec, product.template overwritten<Watched>(three), expected));
      }
    }
  }
}

TEST_CASE_TEMPLATE("subnormal gradients are added to as others are", G, BFloat16, float)
{
  Cuda const exec;
  Gradients<BFloat16, G> const product(exec, layouts()[4], 136, 264, Gathered::a, 0x1p-65f);
  auto const expected = product.template by<detail::UniformWarps>(exec);
  CHECK(same_numbers(exec, product.template by<Watched>(exec), expected));
  index_t subnormal = 0;
  for (G const x : get(exec, expected.const_view())) {
    if (std::fpclassify(static_cast<float>(x)) == FP_SUBNORMAL) { ++subnormal; }
  }
  CHECK(subnormal > expected.const_view().size() / 4);
}

TEST_CASE_TEMPLATE("overwriting some of the experts alone", G, BFloat16, float)
{
  Cuda const exec;
  if (!exec.hopper()) { return; }
  Gradients<BFloat16, G> product(exec, layouts()[0], 264, 136, Gathered::b);
  product.groups = product.groups.only(37, 80);
  auto const changed =
      different(exec, product.template overwritten<Watched>(exec), product.alone());
  auto const of_expert = static_cast<std::size_t>(product.rows_of_expert());
  bool same            = true;
  for (std::size_t row = 0; row < changed.size(); ++row) {
    bool const covered = row / of_expert >= 37 && row / of_expert < 80;
    same               = same && changed[row] == (covered ? 0 : 136);  // still no numbers
  }
  CHECK(same);
}

TEST_CASE("some of the experts alone, the others' gradients as they were")
{
  Cuda const exec;
  for (Gathered const gathered : ways) {
    Gradients<BFloat16, float> product(exec, layouts()[0], 264, 136, gathered);
    product.groups      = product.groups.only(37, 80);
    auto const expected = product.by<detail::UniformWarps>(exec);
    auto const got      = product.by<Watched>(exec);
    CHECK(same_numbers(exec, got, expected));
    auto const changed   = different(exec, got, product.before());
    auto const of_expert = static_cast<std::size_t>(product.rows_of_expert());
    bool others = false, all = true;
    for (std::size_t row = 0; row < changed.size(); ++row) {
      std::size_t const e = row / of_expert;
      bool const covered  = e >= 37 && e < 80 && layouts()[0].counts[e] > 4;
      if (e < 37 || e >= 80) { others = others || changed[row] != 0; }
      if (covered) { all = all && changed[row] != 0; }
    }
    CHECK_FALSE(others);
    CHECK(all);
  }
}

namespace {

template <class TuningT, class G>
void check_runs(Layout const& layout, Extents const& extent, Gathered gathered)
{
  Cuda const exec;
  Gradients<BFloat16, G> const product(exec, layout, extent.m, extent.n, gathered);
  auto const expected = product.template by<detail::UniformWarps>(exec);
  auto const alone    = product.alone();
  for (int run = 0; run < 12; ++run) {
    Cuda const some = exec.sparing(run % 2 == 0 ? 0 : exec.multiprocessors() - 2);
    REQUIRE(same_numbers(exec, product.template by<TuningT>(some), expected));
    if (exec.hopper()) {
      REQUIRE(same_numbers(exec, product.template overwritten<TuningT>(some), alone));
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("no tuning and no run changes gradients' bits",
                   TuningT,
                   Watched,
                   detail::DefaultWeightsKernel,
                   Together,
                   FarAhead,
                   ThreeStages,
                   TwoStages)
{
  for (auto const& layout : weights_layouts()) {
    CAPTURE(layout.name);
    for (Gathered const gathered : ways) {
      CAPTURE(static_cast<int>(gathered));
      for (auto const& extent : {Extents{200, 520}, Extents{264, 64}}) {
        check_runs<TuningT, BFloat16>(layout, extent, gathered);
        check_runs<TuningT, float>(layout, extent, gathered);
      }
    }
  }
}

TEST_CASE("extents that rows of 16 bytes do not have are another kernel's gradients")
{
  Cuda const exec;
  for (auto const& [m, n] : {Extents{100, 64}, Extents{64, 100}}) {
    Gradients<BFloat16, float> const product(exec, layouts()[2], m, n, Gathered::a);
    CHECK(same_numbers(exec, product.by<Watched>(exec), product.by<detail::UniformWarps>(exec)));
  }
}
