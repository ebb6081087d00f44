#pragma once
// The feed-forward expert: two products and an activation between them.
#include <moe/exec/gemm.hpp>
#include <moe/expert/expert_kernel.hpp>
#include <moe/expert/ffn_products.hpp>

namespace moe {

struct no_bias {
  static constexpr bool has_bias = false;
};
struct with_bias {
  static constexpr bool has_bias = true;
};

// F_e(x) = W_out act(W_in x + b_in) + b_out. Weights as checkpoints have them: w_in (L, arity F,
// D), gate rows first, and w_out (L, D, F). Keeps the pre-activations alone: the activation is
// cheap to recompute, and the expert's output is not needed, as <dy, W_out a> = <W_out^T dy, a>
// (SonicMoE, Guo et al. 2025).
template <class ActivationT, class BiasT = no_bias>
struct Ffn {
  static_assert(Activation<ActivationT>,
                "moe::Ffn: an activation has arity, a(z) and a.backward(z, d), see "
                "moe/expert/activation.hpp");
  static constexpr int arity     = ActivationT::arity;
  static constexpr bool has_bias = BiasT::has_bias;

  ActivationT activation{};
  BiasT bias{};

  struct Sizes {
    index_t ffn                                        = 0;  // F
    friend bool operator==(Sizes const&, Sizes const&) = default;
  };
  using Layout = ExpertLayout<Sizes>;

  template <class T, class ExecT>
  struct Params {
    View<T, 3, ExecT> w_in;   // (L, arity F, D)
    View<T, 3, ExecT> w_out;  // (L, D, F)
    View<T, 2, ExecT> b_in;   // (L, arity F) or empty
    View<T, 2, ExecT> b_out;  // (L, D) or empty

    static Params carve(Carver<T, ExecT>& carver, Layout const& s)
    {
      index_t const F = s.own.ffn;
      Params p;
      p.w_in  = carver.take(s.experts, arity * F, s.hidden);
      p.w_out = carver.take(s.experts, s.hidden, F);
      if constexpr (has_bias) {
        p.b_in  = carver.take(s.experts, arity * F);
        p.b_out = carver.take(s.experts, s.hidden);
      }
      return p;
    }
    template <class Visit>
    void for_each(Visit visit) const
    {
      visit("w_in", w_in, Init::normal(w_in.extent(2)));
      visit("w_out", w_out, Init::normal(w_out.extent(2)));
      if constexpr (has_bias) {
        visit("b_in", b_in, Init::zeros());
        visit("b_out", b_out, Init::zeros());
      }
    }
    [[nodiscard]] Layout layout() const
    {
      return {w_out.extent(0), w_out.extent(1), {w_out.extent(2)}};
    }
  };

  template <class T, class ExecT>
  struct Saved {
    Tensor<T, 2, ExecT> pre;  // (R, arity F)
  };
  template <class T, class ExecT>
  struct Scratch {
    Tensor<T, 2, ExecT> a;    // (R, F)
    Tensor<T, 2, ExecT> pre;  // (R, arity F), only where nothing is saved and the space wants it
  };
  template <class T, class ExecT>
  struct Carry {
    Tensor<T, 2, ExecT> weighted_a;  // (R, F) da on the way
    Tensor<T, 2, ExecT> d_pre;       // (R, arity F)
  };

  template <class T, class ExecT>
  [[nodiscard]] Saved<T, ExecT> make_saved(ExecT const& exec, Layout const& s, index_t rows) const
  {
    return {Tensor<T, 2, ExecT>(exec, rows, arity * s.own.ffn)};
  }
  template <class T, class ExecT>
  [[nodiscard]] Scratch<T, ExecT> make_scratch(ExecT const& exec,
                                               Layout const& s,
                                               index_t rows,
                                               Pass pass) const
  {
    bool const with_pre = pass == Pass::infer && !detail::activates_products(exec);
    return {Tensor<T, 2, ExecT>(exec, rows, s.own.ffn),
            Tensor<T, 2, ExecT>(exec, with_pre ? rows : 0, arity * s.own.ffn)};
  }
  template <class T, class ExecT>
  [[nodiscard]] Carry<T, ExecT> make_carry(ExecT const& exec, Layout const& s, index_t rows) const
  {
    return {Tensor<T, 2, ExecT>(exec, rows, s.own.ffn),
            Tensor<T, 2, ExecT>(exec, rows, arity * s.own.ffn)};
  }

  void check(Check const& check, Layout const& s) const { check.at_least("ffn", s.own.ffn, 1); }

  template <class ExecT, class T>
  void infer(ExecT const& exec,
             Params<T const, ExecT> const& params,
             RowGroups<ExecT> const& groups,
             IndexedRows<T, ExecT> const& x,
             Scratch<T, ExecT>& scratch,
             View<T, 2, ExecT> out) const
  {
    compute(exec, params, groups, x, Pass::infer, scratch.pre.view(), scratch.a.view(), out);
  }
  template <class ExecT, class T>
  void forward(ExecT const& exec,
               Params<T const, ExecT> const& params,
               RowGroups<ExecT> const& groups,
               IndexedRows<T, ExecT> const& x,
               Saved<T, ExecT>& saved,
               Scratch<T, ExecT>& scratch,
               View<T, 2, ExecT> out) const
  {
    compute(exec, params, groups, x, Pass::forward, saved.pre.view(), scratch.a.view(), out);
  }

  // da = W_out^T dy;   dx = W_in^T d_pre
  template <class ExecT, class T>
  void backward_data(ExecT const& exec,
                     Params<T const, ExecT> const& params,
                     Saved<T, ExecT> const& saved,
                     RowGroups<ExecT> const& groups,
                     IndexedRows<T, ExecT> const&,
                     IndexedRows<T, ExecT> const& dy,
                     View<accumulator_t<T> const, 1, ExecT> weight,
                     Carry<T, ExecT>& carry,
                     View<T, 2, ExecT> dx,
                     View<accumulator_t<T>, 1, ExecT> d_weight) const
  {
    View<T const, 2, ExecT> const none{};
    detail::down_backward(
        exec,
        groups,
        params.w_out,
        detail::ActivateBackwardRow<ActivationT, T, ExecT>{activation,
                                                           saved.pre.const_view(),
                                                           weight,
                                                           dy,
                                                           params.b_out,
                                                           carry.weighted_a.view(),
                                                           carry.d_pre.view(),
                                                           d_weight},
        dx);
    grouped_gemm_rows(exec, groups, rows(carry.d_pre), Transpose::no, params.w_in, none, dx);
  }

  // d_w_out += dy (weight a)^T,   d_w_in += d_pre x^T,   d_b_out += weight dy,   d_b_in += d_pre;
  // or = these sums
  template <class ExecT, class T, class G>
  void backward_weights(ExecT const& exec,
                        Saved<T, ExecT> const&,
                        RowGroups<ExecT> const& groups,
                        IndexedRows<T, ExecT> const& x,
                        IndexedRows<T, ExecT> const& dy,
                        View<accumulator_t<T> const, 1, ExecT> weight,
                        Carry<T, ExecT>& carry,
                        Params<G, ExecT> const& grads,
                        Result result = Result::add) const
  {
    grouped_gemm_weights(exec, groups, dy, rows(carry.weighted_a), grads.w_out, result);
    grouped_gemm_weights(exec, groups, rows(carry.d_pre), x, grads.w_in, result);
    if constexpr (has_bias) {
      View<accumulator_t<T> const, 1, ExecT> const ones{};
      grouped_sum_rows(exec, groups, dy, weight, grads.b_out, result);
      grouped_sum_rows(exec, groups, rows(carry.d_pre), ones, grads.b_in, result);
    }
  }

 private:
  template <class ExecT, class T>
  void compute(ExecT const& exec,
               Params<T const, ExecT> const& params,
               RowGroups<ExecT> const& groups,
               IndexedRows<T, ExecT> const& x,
               Pass pass,
               View<T, 2, ExecT> pre,
               View<T, 2, ExecT> a,
               View<T, 2, ExecT> out) const
  {
    detail::up_activated(exec, groups, x, params.w_in, params.b_in, activation, pass, pre, a);
    IndexedRows<T, ExecT> const a_rows{a, {}};
    grouped_gemm_rows(exec, groups, a_rows, Transpose::yes, params.w_out, params.b_out, out);
  }
  template <class T, class ExecT>
  static IndexedRows<T, ExecT> rows(Tensor<T, 2, ExecT> const& t)
  {
    return {t.const_view(), {}};
  }
};

}  // namespace moe
