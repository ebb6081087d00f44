#pragma once
// The gate of nearly every model: one product.
#include <moe/exec/gemm.hpp>
#include <moe/route/gate.hpp>

namespace moe {
namespace detail {

template <class T, class ExecT>
struct AddBiasRow {
  View<T const, 1, ExecT> bias;             // (N)
  View<accumulator_t<T>, 2, ExecT> logits;  // (T, N)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    for (index_t e = team.lane(); e < logits.extent(1); e += team.size()) {
      logits(t, e) += static_cast<accumulator_t<T>>(bias(e));
    }
  }
};

}  // namespace detail

// logits = x . w^T (+ bias), in fp32 (double in a double layer) whatever the element type.
template <bool HasBias>
struct BasicLinearGate {
  using kind = gate_kind;
  struct Sizes {
    friend bool operator==(Sizes const&, Sizes const&) = default;
  };

  template <class T, class ExecT>
  struct Params {
    View<T, 2, ExecT> w;     // (N, D)
    View<T, 1, ExecT> bias;  // (N) or empty

    static Params carve(Carver<T, ExecT>& carver, GateLayout<Sizes> const& sizes)
    {
      auto const w = carver.take(sizes.columns, sizes.hidden);
      return {w, carver.take(HasBias ? sizes.columns : 0)};
    }
    template <class Visit>
    void for_each(Visit visit) const
    {
      visit("gate.w", w, Init::normal(w.extent(1)));
      if constexpr (HasBias) { visit("gate.bias", bias, Init::zeros()); }
    }
    [[nodiscard]] GateLayout<Sizes> layout() const { return {w.extent(0), w.extent(1), {}}; }
  };

  template <class T, class ExecT>
  struct Saved {};
  template <class T, class ExecT>
  struct Carry {};
  template <class T, class ExecT>
  [[nodiscard]] Saved<T, ExecT> make_saved(ExecT const&, GateLayout<Sizes> const&, index_t) const
  {
    return {};
  }
  template <class T, class ExecT>
  [[nodiscard]] Carry<T, ExecT> make_carry(ExecT const&, GateLayout<Sizes> const&, index_t) const
  {
    return {};
  }

  template <class ExecT, class T>
  void forward(ExecT const& exec,
               Params<T const, ExecT> const& params,
               View<StepState const, 1, ExecT>,
               View<T const, 2, ExecT> x,
               Saved<T, ExecT>&,
               View<accumulator_t<T>, 2, ExecT> logits) const
  {
    gemm(exec, Transpose::no, x, Transpose::yes, params.w, Result::overwrite, logits);
    if constexpr (HasBias) {
      exec.for_each_row(logits.extent(0), detail::AddBiasRow<T, ExecT>{params.bias, logits});
    }
  }

  // dx = d_logits . w
  template <class ExecT, class T>
  void backward_data(ExecT const& exec,
                     Params<T const, ExecT> const& params,
                     Saved<T, ExecT> const&,
                     View<StepState const, 1, ExecT>,
                     View<T const, 2, ExecT>,
                     View<accumulator_t<T> const, 2, ExecT> d_logits,
                     Carry<T, ExecT>&,
                     View<accumulator_t<T>, 2, ExecT> dx) const
  {
    gemm(exec, Transpose::no, d_logits, Transpose::no, params.w, Result::overwrite, dx);
  }
  // d_w += d_logits^T . x,   d_bias += column sums of d_logits
  template <class ExecT, class T, class G>
  void backward_weights(ExecT const& exec,
                        Params<T const, ExecT> const&,
                        Saved<T, ExecT> const&,
                        View<StepState const, 1, ExecT>,
                        View<T const, 2, ExecT> x,
                        View<accumulator_t<T> const, 2, ExecT> d_logits,
                        Carry<T, ExecT>&,
                        Params<G, ExecT> const& grads) const
  {
    gemm(exec, Transpose::yes, d_logits, Transpose::no, x, Result::add, grads.w);
    if constexpr (HasBias) { sum_rows(exec, d_logits, Result::add, grads.bias); }
  }
};

using LinearGate       = BasicLinearGate<false>;
using BiasedLinearGate = BasicLinearGate<true>;  // GPT-OSS; FastMoE's gate_bias

}  // namespace moe
