#pragma once
// Contract: a gate turns tokens into logits. It has parameters of its own and a way back.
#include <concepts>

#include <moe/core/params.hpp>
#include <moe/route/router.hpp>

namespace moe {

struct gate_kind {};  // what tells Layer's arguments apart

// N logit columns (the router says how many), D inputs, and the gate's own sizes.
template <class SizesT>
struct GateLayout {
  index_t columns = 0;  // N
  index_t hidden  = 0;  // D
  SizesT own{};
};

//   Sizes, Params<T, ExecT>     as an expert kernel's (expert/expert_kernel.hpp)
//   Saved<T, ExecT>             what backward needs beside x; forward writes it
//   Carry<T, ExecT>             what backward_data leaves for backward_weights, and their scratch
//   make_saved, make_carry      allocate for T tokens; nothing else below may allocate
//   check(check, layout)        optional: throws for sizes that it cannot have
//   reads_x                     optional: false where x has no part in the logits: dx is zeros, and
//                               backward_data is called only where somebody adds to them
//   forward(exec, params, step, x, saved, logits)                 logits (T, N) = gate(x (T, D))
//   backward_data(exec, params, saved, step, x, d_logits, carry, dx)   dx (T, D) = ...
//   backward_weights(exec, params, saved, step, x, d_logits, carry, grads)   grads += ...
// Logits, d_logits and this dx are accumulator_t<T>; `step` is one StepState in the space's memory,
// or empty for the defaults.

// Whether x has a gradient through it.
template <class G>
constexpr bool gate_reads_x()
{
  if constexpr (requires { G::reads_x; }) {
    return G::reads_x;
  } else {
    return true;
  }
}

template <class G>
concept HasGateKind = std::same_as<typename G::kind, gate_kind>;

template <class G>
concept HasGateSizes =
    std::default_initializable<typename G::Sizes> && std::equality_comparable<typename G::Sizes>;

template <class G, class T, class ExecT>
concept HasGateParams =
    Carvable<typename G::template Params<T, ExecT>, GateLayout<typename G::Sizes>, T, ExecT> &&
    requires(typename G::template Params<T, ExecT> const params) {
      { params.layout() } -> std::same_as<GateLayout<typename G::Sizes>>;
    };

template <class G, class T, class ExecT>
concept HasGateSaved = requires(
    G const g, ExecT const exec, GateLayout<typename G::Sizes> const sizes, index_t tokens) {
  {
    g.template make_saved<T>(exec, sizes, tokens)
  } -> std::same_as<typename G::template Saved<T, ExecT>>;
  {
    g.template make_carry<T>(exec, sizes, tokens)
  } -> std::same_as<typename G::template Carry<T, ExecT>>;
};

template <class G, class T, class ExecT>
concept HasGateForward = requires(G const g,
                                  ExecT const exec,
                                  typename G::template Params<T const, ExecT> const params,
                                  View<StepState const, 1, ExecT> step,
                                  View<T const, 2, ExecT> x,
                                  typename G::template Saved<T, ExecT>& saved,
                                  View<accumulator_t<T>, 2, ExecT> logits) {
  { g.forward(exec, params, step, x, saved, logits) } -> std::same_as<void>;
};

template <class G, class T, class ExecT>
concept HasGateBackward = requires(G const g,
                                   ExecT const exec,
                                   typename G::template Params<T const, ExecT> const params,
                                   typename G::template Params<T, ExecT> const grads,
                                   typename G::template Saved<T, ExecT> const& saved,
                                   View<StepState const, 1, ExecT> step,
                                   View<T const, 2, ExecT> x,
                                   View<accumulator_t<T> const, 2, ExecT> d_logits,
                                   typename G::template Carry<T, ExecT>& carry,
                                   View<accumulator_t<T>, 2, ExecT> dx) {
  { g.backward_data(exec, params, saved, step, x, d_logits, carry, dx) } -> std::same_as<void>;
  {
    g.backward_weights(exec, params, saved, step, x, d_logits, carry, grads)
  } -> std::same_as<void>;
};

template <class G, class T, class ExecT>
concept Gate =
    HasGateKind<G> && HasGateSizes<G> && HasGateParams<G, T, ExecT> && HasGateSaved<G, T, ExecT> &&
    HasGateForward<G, T, ExecT> && HasGateBackward<G, T, ExecT>;

}  // namespace moe
