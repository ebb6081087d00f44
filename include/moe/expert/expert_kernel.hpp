#pragma once
// Contract: an expert kernel computes F_e on the rows of every expert, and the way back.
#include <concepts>

#include <moe/core/element.hpp>
#include <moe/core/params.hpp>
#include <moe/exec/gemm.hpp>
#include <moe/expert/expert_rows.hpp>

namespace moe {

// Every function takes the whole buffers and works on the rows of groups.first ... groups.last, at
// absolute rows, so that a dispatcher may call it once, once per expert, or chunk by chunk while
// rows arrive, and the bits are the same. Shapes: x, dy rows (R, D) by reference; out, dx (R, D).
//
//   Sizes                what beside D and L it must know to lay out its parameters; comparable
//   Params<T, ExecT>     a struct of views for values and gradients alike (core/params.hpp), whose
//                        layout() says the sizes that its views have
//   Saved<T, ExecT>      what forward keeps for backward; const from then on
//   Carry<T, ExecT>      what backward_data leaves for backward_weights; also all their scratch
//   Scratch<T, ExecT>    what a forward pass needs beside; in an infer pass also in place of Saved
//   make_saved, make_carry, make_scratch   allocate for R rows; nothing else below may allocate but
//                        what the space's primitives take for themselves
//   check(check, layout)                   optional: throws for sizes that it cannot have
//
//   infer(exec, params, groups, x, scratch, out)                  out(r) = F_e(x_r), keeps nothing
//   forward(exec, params, groups, x, saved, scratch, out)         the same, writes saved
//   backward_data(exec, params, saved, groups, x, dy, weight, carry, dx, d_weight)
//       y(token) = sum of weight(r) F_e(x_r), and row r of dy is dy(token): the kernel itself forms
//       dx(r) = weight(r) J^T dy(r) and d_weight(r) = <dy(r), F_e(x_r)>, so that one that never
//       kept F_e(x) gets it from what it recomputes anyway, <dy, W a> = <W^T dy, a>
//   backward_weights(exec, saved, groups, x, dy, weight, carry, grads)
//       grads += weight(r) ... , after backward_data of the same rows; in one call for all rows,
//       since a sum over rows must not depend on how they were cut into chunks
//   backward_weights(exec, saved, groups, x, dy, weight, carry, grads, result)      optional: with
//       Result::overwrite, grads = that sum for every expert of groups, zeros where it has no rows
// Elements are T; weight and d_weight are accumulator_t<T>; gradients may be of another type.

// L experts of D inputs and outputs, and the kernel's own sizes.
template <class SizesT>
struct ExpertLayout {
  index_t experts = 0;  // L
  index_t hidden  = 0;  // D
  SizesT own{};
};

enum class Pass { infer, forward };

template <class X>
concept HasSizes =
    std::default_initializable<typename X::Sizes> && std::equality_comparable<typename X::Sizes>;

template <class X, class T, class ExecT>
concept HasParams =
    Carvable<typename X::template Params<T, ExecT>, ExpertLayout<typename X::Sizes>, T, ExecT> &&
    requires(typename X::template Params<T, ExecT> const params) {
      { params.layout() } -> std::same_as<ExpertLayout<typename X::Sizes>>;
    };

template <class X, class T, class ExecT>
concept HasSaved = requires(
    X const k, ExecT const exec, ExpertLayout<typename X::Sizes> const sizes, index_t rows) {
  {
    k.template make_saved<T>(exec, sizes, rows)
  } -> std::same_as<typename X::template Saved<T, ExecT>>;
  {
    k.template make_carry<T>(exec, sizes, rows)
  } -> std::same_as<typename X::template Carry<T, ExecT>>;
  {
    k.template make_scratch<T>(exec, sizes, rows, Pass::infer)
  } -> std::same_as<typename X::template Scratch<T, ExecT>>;
};

template <class X, class T, class ExecT>
concept HasExpertInfer = requires(X const k,
                                  ExecT const exec,
                                  typename X::template Params<T const, ExecT> const params,
                                  RowGroups<ExecT> const groups,
                                  IndexedRows<T, ExecT> const x,
                                  typename X::template Scratch<T, ExecT>& scratch,
                                  View<T, 2, ExecT> out) {
  { k.infer(exec, params, groups, x, scratch, out) } -> std::same_as<void>;
};

template <class X, class T, class ExecT>
concept HasExpertForward = requires(X const k,
                                    ExecT const exec,
                                    typename X::template Params<T const, ExecT> const params,
                                    RowGroups<ExecT> const groups,
                                    IndexedRows<T, ExecT> const x,
                                    typename X::template Saved<T, ExecT>& saved,
                                    typename X::template Scratch<T, ExecT>& scratch,
                                    View<T, 2, ExecT> out) {
  { k.forward(exec, params, groups, x, saved, scratch, out) } -> std::same_as<void>;
};

template <class X, class T, class ExecT>
concept HasExpertBackwardData = requires(X const k,
                                         ExecT const exec,
                                         typename X::template Params<T const, ExecT> const params,
                                         typename X::template Saved<T, ExecT> const& saved,
                                         RowGroups<ExecT> const groups,
                                         IndexedRows<T, ExecT> const x,
                                         IndexedRows<T, ExecT> const dy,
                                         View<accumulator_t<T> const, 1, ExecT> weight,
                                         typename X::template Carry<T, ExecT>& carry,
                                         View<T, 2, ExecT> dx,
                                         View<accumulator_t<T>, 1, ExecT> d_weight) {
  {
    k.backward_data(exec, params, saved, groups, x, dy, weight, carry, dx, d_weight)
  } -> std::same_as<void>;
};

template <class X, class T, class ExecT>
concept HasExpertBackwardWeights = requires(X const k,
                                            ExecT const exec,
                                            typename X::template Saved<T, ExecT> const& saved,
                                            RowGroups<ExecT> const groups,
                                            IndexedRows<T, ExecT> const x,
                                            IndexedRows<T, ExecT> const dy,
                                            View<accumulator_t<T> const, 1, ExecT> weight,
                                            typename X::template Carry<T, ExecT>& carry,
                                            typename X::template Params<T, ExecT> const grads) {
  { k.backward_weights(exec, saved, groups, x, dy, weight, carry, grads) } -> std::same_as<void>;
};

// A kernel that can also overwrite gradients. Of one that cannot the library makes them zeros
// first.
template <class X, class T, class ExecT>
concept OverwritesWeights = requires(X const k,
                                     ExecT const exec,
                                     typename X::template Saved<T, ExecT> const& saved,
                                     RowGroups<ExecT> const groups,
                                     IndexedRows<T, ExecT> const x,
                                     IndexedRows<T, ExecT> const dy,
                                     View<accumulator_t<T> const, 1, ExecT> weight,
                                     typename X::template Carry<T, ExecT>& carry,
                                     typename X::template Params<T, ExecT> const grads) {
  {
    k.backward_weights(exec, saved, groups, x, dy, weight, carry, grads, Result::overwrite)
  } -> std::same_as<void>;
};

template <class X, class T, class ExecT>
concept ExpertKernel = HasSizes<X> && HasParams<X, T, ExecT> && HasSaved<X, T, ExecT> &&
                       HasExpertInfer<X, T, ExecT> && HasExpertForward<X, T, ExecT> &&
                       HasExpertBackwardData<X, T, ExecT> && HasExpertBackwardWeights<X, T, ExecT>;

// A kernel with the parameters it works on: what a dispatcher is handed.
template <class KernelT, class ParamsT>
struct BoundExperts {
  KernelT kernel;
  ParamsT params;
};
template <class K, class P>
BoundExperts(K, P) -> BoundExperts<K, P>;

}  // namespace moe
