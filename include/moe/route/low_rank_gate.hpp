#pragma once
// A gate of two thin products, for many experts: r (D + N) weights in place of D N.
#include <moe/exec/gemm.hpp>
#include <moe/route/gate.hpp>

namespace moe {

// logits = (x . a^T) . b^T, with rank r between them.
struct LowRankGate {
  using kind = gate_kind;
  struct Sizes {
    index_t rank                                       = 16;  // r
    friend bool operator==(Sizes const&, Sizes const&) = default;
  };
  using Layout = GateLayout<Sizes>;

  template <class T, class ExecT>
  struct Params {
    View<T, 2, ExecT> a;  // (r, D)
    View<T, 2, ExecT> b;  // (N, r)

    static Params carve(Carver<T, ExecT>& carver, Layout const& s)
    {
      auto const a = carver.take(s.own.rank, s.hidden);
      return {a, carver.take(s.columns, s.own.rank)};
    }
    template <class Visit>
    void for_each(Visit visit) const
    {
      visit("gate.a", a, Init::normal(a.extent(1)));
      visit("gate.b", b, Init::normal(b.extent(1)));
    }
    [[nodiscard]] Layout layout() const { return {b.extent(0), a.extent(1), {a.extent(0)}}; }
  };

  template <class T, class ExecT>
  struct Saved {
    Tensor<accumulator_t<T>, 2, ExecT> inner;  // (T, r) x . a^T
  };
  template <class T, class ExecT>
  struct Carry {
    Tensor<accumulator_t<T>, 2, ExecT> d_inner;  // (T, r)
  };
  template <class T, class ExecT>
  [[nodiscard]] Saved<T, ExecT> make_saved(ExecT const& exec, Layout const& s, index_t tokens) const
  {
    return {Tensor<accumulator_t<T>, 2, ExecT>(exec, tokens, s.own.rank)};
  }
  template <class T, class ExecT>
  [[nodiscard]] Carry<T, ExecT> make_carry(ExecT const& exec, Layout const& s, index_t tokens) const
  {
    return {Tensor<accumulator_t<T>, 2, ExecT>(exec, tokens, s.own.rank)};
  }

  void check(Check const& check, Layout const& s) const { check.at_least("rank", s.own.rank, 1); }

  template <class ExecT, class T>
  void forward(ExecT const& exec,
               Params<T const, ExecT> const& params,
               View<StepState const, 1, ExecT>,
               View<T const, 2, ExecT> x,
               Saved<T, ExecT>& saved,
               View<accumulator_t<T>, 2, ExecT> logits) const
  {
    auto const inner = saved.inner.view();
    gemm(exec, Transpose::no, x, Transpose::yes, params.a, Result::overwrite, inner);
    gemm(exec, Transpose::no, inner, Transpose::yes, params.b, Result::overwrite, logits);
  }

  // d_inner = d_logits . b,   dx = d_inner . a
  template <class ExecT, class T>
  void backward_data(ExecT const& exec,
                     Params<T const, ExecT> const& params,
                     Saved<T, ExecT> const&,
                     View<StepState const, 1, ExecT>,
                     View<T const, 2, ExecT>,
                     View<accumulator_t<T> const, 2, ExecT> d_logits,
                     Carry<T, ExecT>& carry,
                     View<accumulator_t<T>, 2, ExecT> dx) const
  {
    auto const d_inner = carry.d_inner.view();
    gemm(exec, Transpose::no, d_logits, Transpose::no, params.b, Result::overwrite, d_inner);
    gemm(exec, Transpose::no, d_inner, Transpose::no, params.a, Result::overwrite, dx);
  }
  // d_b += d_logits^T . inner,   d_a += d_inner^T . x
  template <class ExecT, class T, class G>
  void backward_weights(ExecT const& exec,
                        Params<T const, ExecT> const&,
                        Saved<T, ExecT> const& saved,
                        View<StepState const, 1, ExecT>,
                        View<T const, 2, ExecT> x,
                        View<accumulator_t<T> const, 2, ExecT> d_logits,
                        Carry<T, ExecT>& carry,
                        Params<G, ExecT> const& grads) const
  {
    auto const inner   = saved.inner.const_view();
    auto const d_inner = carry.d_inner.const_view();
    gemm(exec, Transpose::yes, d_logits, Transpose::no, inner, Result::add, grads.b);
    gemm(exec, Transpose::yes, d_inner, Transpose::no, x, Result::add, grads.a);
  }
};

}  // namespace moe
