// The FFN's products with activations in their epilogues against the products and the passes over
// their results: the same bits, for every activation, but for d_weight, which is another sum.
#include "hopper_cases.cuh"

#include <doctest/doctest.h>

#include <cmath>
#include <utility>

#include <moe/moe.cuh>

using namespace moe;
using namespace moe::test;

namespace moe::test {

// A wait that hangs ends in a trap instead.
struct Watched : detail::HopperTuning {
  static constexpr bool trap_when_stuck = true;
  static constexpr index_t pairs_to     = 0;  // never
};
struct FfnAhead : Watched {
  static constexpr int lead = 2;
};
// For all but one of the layouts.
struct FfnInPairs : Watched {
  static constexpr index_t pairs_from = 2, pairs_to = 1024;
};

}  // namespace moe::test

namespace {

template <class T, class ActivationT>
class Up {
 public:
  static constexpr int arity = ActivationT::arity;
  using Results              = std::pair<std::vector<T>, std::vector<T>>;

  Up(Cuda const& exec, Layout const& layout, index_t F, index_t D, bool indexed)
      : placed_(exec, layout, indexed ? layout.rows() / 2 + 3 : layout.rows())
  {
    index_t const experts = placed_.groups.experts(), rows = placed_.groups.rows;
    x_    = filled<T>(exec, indexed ? rows / 2 + 3 : rows, D, 1);
    w_    = filled<T>(exec, experts * arity * F, D, 2);
    bias_ = filled<T>(exec, experts, arity * F, 3);
    pre_  = Tensor<T, 2, Cuda>(exec, rows, arity * F);
    a_    = Tensor<T, 2, Cuda>(exec, rows, F);
    if (!indexed) { PlacedRows::fill_unused(exec, layout, x_); }
    x_rows_ = {x_.const_view(), indexed ? placed_.index() : View<Id const, 1, Cuda>{}};
    w_view_ = View<T const, 3, Cuda>(w_.const_view().data_handle(), experts, arity * F, D);
  }

  // Pre-activations and activations.
  template <class KernelT>
  Results by(Cuda const& exec, bool biased, Pass pass = Pass::forward)
  {
    fill_with_nan(exec, pre_);
    fill_with_nan(exec, a_);
    detail::up_activated<KernelT>(exec,
                                  placed_.groups,
                                  x_rows_,
                                  w_view_,
                                  biased ? bias_.const_view() : View<T const, 2, Cuda>{},
                                  ActivationT{},
                                  pass,
                                  pre_.view(),
                                  a_.view());
    return {get(exec, pre_.const_view()), get(exec, a_.const_view())};
  }
  // Whether the kernel that has both in one takes it; its results are left behind.
  bool taken(Cuda const& exec)
  {
    return detail::hopper_up_activated<Watched>(exec,
                                                placed_.groups,
                                                x_rows_,
                                                w_view_,
                                                View<T const, 2, Cuda>{},
                                                ActivationT{},
                                                pre_.view(),
                                                a_.view());
  }

 private:
  PlacedRows placed_;
  Tensor<T, 2, Cuda> x_, w_, bias_, pre_, a_;
  IndexedRows<T, Cuda> x_rows_;
  View<T const, 3, Cuda> w_view_;
};

template <class Results>
bool same_results(Results const& a, Results const& b)
{
  return same_bits(a.first, b.first) && same_bits(a.second, b.second);
}

// What a backward pass makes of pre-activations and dy.
template <class T, class ActivationT>
class Down {
 public:
  static constexpr int arity = ActivationT::arity;
  struct Results {
    std::vector<T> weighted_a, d_pre;
    std::vector<float> d_weight;
  };

  Down(Cuda const& exec, Layout const& layout, index_t F, index_t D, bool indexed)
      : placed_(exec, layout, indexed ? layout.rows() / 2 + 3 : layout.rows())
  {
    index_t const experts = placed_.groups.experts(), rows = placed_.groups.rows;
    dy_       = filled<T>(exec, indexed ? rows / 2 + 3 : rows, D, 1);
    w_        = filled<T>(exec, experts * D, F, 2);
    b_out_    = filled<T>(exec, experts, D, 3);
    pre_      = filled<T>(exec, rows, arity * F, 4, 9);
    weight_   = filled<float>(exec, rows, 1, 5);
    a_        = Tensor<T, 2, Cuda>(exec, rows, F);
    d_pre_    = Tensor<T, 2, Cuda>(exec, rows, arity * F);
    dx_       = Tensor<T, 2, Cuda>(exec, rows, D);
    d_weight_ = Tensor<float, 1, Cuda>(exec, rows);
    PlacedRows::fill_unused(exec, layout, pre_);
    PlacedRows::fill_unused(exec, layout, weight_);
    if (!indexed) { PlacedRows::fill_unused(exec, layout, dy_); }
    dy_rows_ = {dy_.const_view(), indexed ? placed_.index() : View<Id const, 1, Cuda>{}};
    w_view_  = View<T const, 3, Cuda>(w_.const_view().data_handle(), experts, D, F);
  }

  template <class KernelT>
  Results by(Cuda const& exec, bool biased)
  {
    fill_with_nan(exec, a_);
    fill_with_nan(exec, d_pre_);
    fill_with_nan(exec, dx_);
    fill_with_nan(exec, d_weight_);
    detail::down_backward<KernelT>(exec, placed_.groups, w_view_, row(biased), dx_.view());
    return {get(exec, a_.const_view()),
            get(exec, d_pre_.const_view()),
            get(exec, d_weight_.const_view())};
  }
  // Whether the kernel that has all in one takes it; its results are left behind.
  bool taken(Cuda const& exec)
  {
    return detail::hopper_down_backward<Watched>(
        exec, placed_.groups, w_view_, row(false), dx_.view());
  }

 private:
  detail::ActivateBackwardRow<ActivationT, T, Cuda> row(bool biased)
  {
    return {ActivationT{},
            pre_.const_view(),
            View<float const, 1, Cuda>(weight_.const_view().data_handle(), placed_.groups.rows),
            dy_rows_,
            biased ? b_out_.const_view() : View<T const, 2, Cuda>{},
            a_.view(),
            d_pre_.view(),
            d_weight_.view()};
  }

  PlacedRows placed_;
  Tensor<T, 2, Cuda> dy_, w_, b_out_, pre_, a_, d_pre_, dx_;
  Tensor<float, 2, Cuda> weight_;
  Tensor<float, 1, Cuda> d_weight_;
  IndexedRows<T, Cuda> dy_rows_;
  View<T const, 3, Cuda> w_view_;
};

template <class Results>
bool same_gradients(Results const& a, Results const& b)
{
  return same_bits(a.weighted_a, b.weighted_a) && same_bits(a.d_pre, b.d_pre);
}

// In the Frobenius norm; rows that nobody wrote are NaN in both.
double difference(std::vector<float> const& a, std::vector<float> const& b)
{
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) { continue; }
    double const d = double{a[i]} - double{b[i]};
    difference += d * d;
    size += double{b[i]} * double{b[i]};
  }
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

struct Extents {
  index_t F, D;
};

template <class T, class ActivationT>
void check_up(Cuda const& exec, Layout const& layout, Extents const& s, bool indexed, bool biased)
{
  CAPTURE(layout.name);
  CAPTURE(s.F);
  CAPTURE(s.D);
  CAPTURE(indexed);
  CAPTURE(biased);
  Up<T, ActivationT> up(exec, layout, s.F, s.D, indexed);
  auto const expected = up.template by<detail::UniformWarps>(exec, biased);
  REQUIRE(same_results(up.template by<Watched>(exec, biased), expected));
  // So few blocks that each takes many tiles.
  Cuda const three = exec.sparing(exec.multiprocessors() - 3);
  REQUIRE(same_results(up.template by<Watched>(three, biased), expected));
  REQUIRE(same_bits(up.template by<Watched>(exec, biased, Pass::infer).second, expected.second));
}

template <class T, class ActivationT>
void check_down(Cuda const& exec, Layout const& layout, Extents const& s, bool indexed, bool biased)
{
  CAPTURE(layout.name);
  CAPTURE(s.F);
  CAPTURE(s.D);
  CAPTURE(indexed);
  CAPTURE(biased);
  Down<T, ActivationT> down(exec, layout, s.F, s.D, indexed);
  auto const expected = down.template by<detail::UniformWarps>(exec, biased);
  auto const got      = down.template by<Watched>(exec, biased);
  REQUIRE(same_gradients(got, expected));
  REQUIRE(difference(got.d_weight, expected.d_weight) < 1e-5);
  Cuda const three = exec.sparing(exec.multiprocessors() - 3);
  auto const again = down.template by<Watched>(three, biased);
  REQUIRE(same_gradients(again, expected));
  REQUIRE(same_bits(again.d_weight, got.d_weight));
}

}  // namespace

TEST_CASE("the kernels that activate run where their code is, and save only what is read")
{
  Cuda const exec;
  Up<BFloat16, SwiGlu> up(exec, layouts()[0], 136, 264, true);
  CHECK(up.taken(exec) == exec.hopper());
  auto const evaluated = up.by<Watched>(exec, false, Pass::infer);
  if (exec.hopper()) {
    for (auto const& z : evaluated.first) {
      REQUIRE(z.bits == 0xffff);
    }
  }
  Down<BFloat16, SwiGlu> down(exec, layouts()[0], 136, 264, true);
  CHECK(down.taken(exec) == exec.hopper());
  exec.synchronize();
  // Rows that are not 16 bytes times something are the composition's, and where dx has no room for
  // partial sums.
  Down<BFloat16, SwiGlu> narrow(exec, layouts()[3], 2056, 8, true);
  CHECK_FALSE(narrow.taken(exec));
  for (auto const& [F, D] : {Extents{100, 64}, Extents{64, 100}}) {
    Up<BFloat16, SwiGlu> odd(exec, layouts()[2], F, D, false);
    CHECK_FALSE(odd.taken(exec));
    Down<BFloat16, SwiGlu> odd_down(exec, layouts()[2], F, D, false);
    CHECK_FALSE(odd_down.taken(exec));
    CHECK(same_results(odd.by<Watched>(exec, true), odd.by<detail::UniformWarps>(exec, true)));
  }
}

TEST_CASE_TEMPLATE("all extents and groups", T, BFloat16, Half)
{
  Cuda const exec;
  int how = 0;
  for (auto const& layout : layouts()) {
    for (auto const& s : {Extents{8, 64},
                          Extents{40, 96},
                          Extents{96, 40},
                          Extents{136, 136},
                          Extents{128, 8},
                          Extents{768, 200},
                          Extents{2880, 72}}) {
      for (int i = 0; i < 2; ++i, ++how) {
        check_up<T, SwiGlu>(exec, layout, s, i == 0, how % 3 == 0);
        check_down<T, SwiGlu>(exec, layout, s, i == 0, how % 3 == 0);
      }
    }
    for (auto const& s : {Extents{8, 64}, Extents{264, 136}, Extents{2880, 40}}) {
      check_up<T, Relu>(exec, layout, s, how % 2 == 0, how % 3 != 0);
      check_down<T, Relu>(exec, layout, s, how % 2 == 0, how % 3 != 0);
      ++how;
    }
  }
}

TEST_CASE_TEMPLATE("all activations",
                   ActivationT,
                   Relu,
                   SquaredRelu,
                   Gelu,
                   Silu,
                   SwiGlu,
                   GeGlu,
                   Glu<Relu>,
                   ClampedGlu)
{
  Cuda const exec;
  // By their rows' length pre-activations are small and large ones.
  for (auto const& s : {Extents{200, 8}, Extents{136, 520}}) {
    check_up<BFloat16, ActivationT>(exec, layouts()[4], s, true, true);
    check_up<BFloat16, ActivationT>(exec, layouts()[2], s, false, false);
    check_down<BFloat16, ActivationT>(exec, layouts()[4], s, true, true);
    check_down<BFloat16, ActivationT>(exec, layouts()[2], s, false, false);
  }
}

TEST_CASE_TEMPLATE("no tuning and no run changes bits",
                   TuningT,
                   Watched,
                   FfnAhead,
                   FfnInPairs,
                   detail::HopperTuning)
{
  Cuda const exec;
  for (auto const& layout : layouts()) {
    Up<BFloat16, SwiGlu> up(exec, layout, 264, 200, true);
    auto const expected = up.by<detail::UniformWarps>(exec, true);
    Down<BFloat16, SwiGlu> down(exec, layout, 264, 200, true);
    auto const gradients = down.by<Watched>(exec, true);
    for (int run = 0; run < 20; ++run) {
      Cuda const some = exec.sparing(run % 2 == 0 ? 0 : exec.multiprocessors() - 2);
      REQUIRE(same_results(up.by<TuningT>(some, true), expected));
      auto const again = down.by<TuningT>(some, true);
      REQUIRE(same_gradients(again, gradients));
      REQUIRE(same_bits(again.d_weight, gradients.d_weight));
    }
  }
}
