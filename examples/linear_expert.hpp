#pragma once
// An expert of one's own, F_e(x) = W_e x. Its contract: moe/expert/expert_kernel.hpp.
#include <moe/moe.hpp>

#include <variant>

// With dx = W^T dy: d_weight = <dy, W x> = <dx, x>, so W x is not kept. Then both are weighted.
template <class T, class ExecT>
struct LinearBackwardRow {
  using S = moe::accumulator_t<T>;
  moe::IndexedRows<T, ExecT> x;           // (R, D)
  moe::View<S const, 1, ExecT> weight;    // (R)
  moe::View<T, 2, ExecT> dx, weighted_x;  // (R, D)
  moe::View<S, 1, ExecT> d_weight;        // (R)

  template <moe::Team G>
  MOE_HOST_DEVICE void operator()(G team, moe::index_t, moe::index_t r) const
  {
    T const* const x_r = x.row(r);  // null: a row of zeros
    S sum              = 0;
    for (moe::index_t d = team.lane(); d < dx.extent(1); d += team.size()) {
      S const x_d = x_r == nullptr ? S{0} : S(x_r[d]), dx_d = S(dx(r, d));
      sum += dx_d * x_d;
      dx(r, d)         = T(weight(r) * dx_d);
      weighted_x(r, d) = T(weight(r) * x_d);
    }
    sum = team.sum(sum);
    if (team.lane() == 0) { d_weight(r) = sum; }
  }
};

struct LinearExpert {
  using Sizes  = std::monostate;  // beside hidden and experts: nothing
  using Layout = moe::ExpertLayout<Sizes>;

  template <class T, class ExecT>
  struct Params {
    moe::View<T, 3, ExecT> w;  // (L, D, D)
    static Params carve(auto& c, Layout s) { return {c.take(s.experts, s.hidden, s.hidden)}; }
    void for_each(auto visit) const { visit("w", w, moe::Init::normal(w.extent(2))); }
    Layout layout() const { return {w.extent(0), w.extent(1), {}}; }
  };
  template <class T, class ExecT>
  struct Carry {
    moe::Tensor<T, 2, ExecT> weighted_x;  // (R, D)
    moe::IndexedRows<T, ExecT> rows() const { return {weighted_x.const_view(), {}}; }
  };
  template <class T, class ExecT>
  using Saved = std::monostate;  // x is the caller's
  template <class T, class ExecT>
  using Scratch = std::monostate;
  template <class T>
  std::monostate make_saved(auto&, Layout, moe::index_t) const
  {
    return {};
  }
  template <class T>
  std::monostate make_scratch(auto&, Layout, moe::index_t, moe::Pass) const
  {
    return {};
  }
  template <class T, class ExecT>
  Carry<T, ExecT> make_carry(ExecT const& exec, Layout s, moe::index_t rows) const
  {
    return {moe::Tensor<T, 2, ExecT>(exec, rows, s.hidden)};
  }

  void infer(auto& exec, auto& params, auto& groups, auto x, auto&, auto out) const
  {
    grouped_gemm_rows(exec, groups, x, moe::Transpose::yes, params.w, {}, out);
  }
  void forward(auto& exec, auto& params, auto& groups, auto x, auto&, auto& none, auto out) const
  {
    infer(exec, params, groups, x, none, out);
  }

  template <class T, class ExecT>
  void backward_data(ExecT const& exec,
                     auto& params,
                     std::monostate,
                     auto& groups,
                     moe::IndexedRows<T, ExecT> x,
                     auto dy,
                     auto weight,
                     auto& carry,
                     moe::View<T, 2, ExecT> dx,
                     auto d_weight) const
  {
    grouped_gemm_rows(exec, groups, dy, moe::Transpose::no, params.w, {}, dx);
    LinearBackwardRow<T, ExecT> const row{x, weight, dx, carry.weighted_x.view(), d_weight};
    for_each_grouped_row(exec, groups, row);
  }
  void backward_weights(
      auto& exec, auto&, auto& groups, auto, auto dy, auto, auto& carry, auto& grads) const
  {
    grouped_gemm_weights(exec, groups, dy, carry.rows(), grads.w);  // += dy (weight x)^T
  }
};
