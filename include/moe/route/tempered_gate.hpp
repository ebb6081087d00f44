#pragma once
// A temperature that the caller schedules, around any gate.
#include <type_traits>

#include <moe/route/gate.hpp>

namespace moe {
namespace detail {

// What this step's temperature is, kept for backward: the caller may move on to the next one.
template <class S, class ExecT>
struct KeepTemperatureRow {
  View<StepState const, 1, ExecT> step;  // (1) or empty
  View<S, 1, ExecT> temperature;         // (1)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t) const
  {
    if (team.lane() == 0) {
      auto const now = step.data_handle() == nullptr ? StepState{} : step(0);
      temperature(0) = static_cast<S>(now.temperature);
    }
  }
};

// out(t) = in(t) / temperature
template <class S, class ExecT>
struct DivideByTemperatureRow {
  View<S const, 1, ExecT> temperature;  // (1)
  View<S const, 2, ExecT> in;           // (T, N), may be out
  View<S, 2, ExecT> out;                // (T, N)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    for (index_t e = team.lane(); e < out.extent(1); e += team.size()) {
      out(t, e) = in(t, e) / temperature(0);
    }
  }
};

}  // namespace detail

// logits = those of `gate` / StepState::temperature. A temperature that is not positive gives
// logits that are of no use, or not finite, which the router counts; it lives in the space's
// memory, so nobody can refuse it before.
template <class GateT>
struct TemperedGate {
  static_assert(HasGateKind<GateT>, "moe::TemperedGate: a gate, see moe/route/gate.hpp");
  using kind   = gate_kind;
  using Sizes  = typename GateT::Sizes;
  using Layout = GateLayout<Sizes>;

  GateT gate{};

  template <class T, class ExecT>
  using Params = typename GateT::template Params<T, ExecT>;

  template <class T, class ExecT>
  struct Saved {
    typename GateT::template Saved<T, ExecT> gate;
    Tensor<accumulator_t<T>, 1, ExecT> temperature;  // (1)
  };
  template <class T, class ExecT>
  struct Carry {
    typename GateT::template Carry<T, ExecT> gate;
    Tensor<accumulator_t<T>, 2, ExecT> d_logits;  // (T, N) of the gate within
  };
  template <class T, class ExecT>
  [[nodiscard]] Saved<T, ExecT> make_saved(ExecT const& exec, Layout const& s, index_t tokens) const
  {
    return {gate.template make_saved<T>(exec, s, tokens),
            Tensor<accumulator_t<T>, 1, ExecT>(exec, 1)};
  }
  template <class T, class ExecT>
  [[nodiscard]] Carry<T, ExecT> make_carry(ExecT const& exec, Layout const& s, index_t tokens) const
  {
    return {gate.template make_carry<T>(exec, s, tokens),
            Tensor<accumulator_t<T>, 2, ExecT>(exec, tokens, s.columns)};
  }

  void check(Check const& check, Layout const& s) const
  {
    if constexpr (requires { gate.check(check, s); }) { gate.check(check, s); }
  }

  template <class ExecT, class T>
  void forward(ExecT const& exec,
               Params<T const, ExecT> const& params,
               View<StepState const, 1, ExecT> step,
               View<T const, 2, ExecT> x,
               Saved<T, ExecT>& saved,
               View<accumulator_t<T>, 2, ExecT> logits) const
  {
    using S = accumulator_t<T>;
    exec.for_each_row(1, detail::KeepTemperatureRow<S, ExecT>{step, saved.temperature.view()});
    gate.forward(exec, params, step, x, saved.gate, logits);
    divide(exec, saved.temperature, logits, logits);
  }

  template <class ExecT, class T>
  void backward_data(ExecT const& exec,
                     Params<T const, ExecT> const& params,
                     Saved<T, ExecT> const& saved,
                     View<StepState const, 1, ExecT> step,
                     View<T const, 2, ExecT> x,
                     View<accumulator_t<T> const, 2, ExecT> d_logits,
                     Carry<T, ExecT>& carry,
                     View<accumulator_t<T>, 2, ExecT> dx) const
  {
    divide(exec, saved.temperature, d_logits, carry.d_logits.view());
    auto const divided = carry.d_logits.const_view();
    gate.backward_data(exec, params, saved.gate, step, x, divided, carry.gate, dx);
  }
  template <class ExecT, class T, class G>
  void backward_weights(ExecT const& exec,
                        Params<T const, ExecT> const& params,
                        Saved<T, ExecT> const& saved,
                        View<StepState const, 1, ExecT> step,
                        View<T const, 2, ExecT> x,
                        View<accumulator_t<T> const, 2, ExecT>,
                        Carry<T, ExecT>& carry,
                        Params<G, ExecT> const& grads) const
  {
    auto const divided = carry.d_logits.const_view();
    gate.backward_weights(exec, params, saved.gate, step, x, divided, carry.gate, grads);
  }

 private:
  template <class S, class ExecT>
  static void divide(ExecT const& exec,
                     Tensor<S, 1, ExecT> const& temperature,
                     std::type_identity_t<View<S const, 2, ExecT>> in,
                     View<S, 2, ExecT> out)
  {
    exec.for_each_row(out.extent(0),
                      detail::DivideByTemperatureRow<S, ExecT>{temperature.const_view(), in, out});
  }
};
template <class G>
TemperedGate(G) -> TemperedGate<G>;

}  // namespace moe
