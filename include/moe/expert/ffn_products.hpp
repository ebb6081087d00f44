#pragma once
// An FFN's products with what follows each of them; a space may have them in one. These
// compositions say what those must give.
#include <moe/core/tensor.hpp>
#include <moe/exec/gemm.hpp>
#include <moe/exec/tensor_core_operands.hpp>
#include <moe/expert/expert_kernel.hpp>
#include <moe/expert/ffn_rows.hpp>

namespace moe::detail {

// Whether the space's up_activated may be one kernel that keeps no pre-activations: it is then
// given none in an infer pass, and makes them itself where it has to. Elsewhere they are scratch.
template <class ExecT>
[[nodiscard]] bool activates_products(ExecT const& exec)
{
  if constexpr (requires { exec.activates_products(); }) { return exec.activates_products(); }
  return false;
}
// Whether that kernel, on sm_90a (cuda/up_activated.cuh), takes these operands. The one place that
// says so, also for memory plans. `pre` may be empty.
template <class T, class ExecT>
[[nodiscard]] bool fits_activated_product(RowGroups<ExecT> const& groups,
                                          IndexedRows<T, ExecT> const& x,
                                          View<T const, 3, ExecT> w,
                                          View<T const, 2, ExecT> bias,
                                          View<T, 2, ExecT> pre,
                                          View<T, 2, ExecT> a)
{
  index_t const F = a.extent(1), k = x.columns();
  return tensor_core_elements<T> && groups.known_begin < 0 && groups.rows <= ragged_span &&
         k > hopper_step && x.base.extent(0) > 0 && within_64_gib(x.base) &&
         aligned_16(x.base.data_handle(), k) && aligned_16(w.data_handle(), k) &&
         aligned_16(bias.data_handle(), F) && aligned_16(pre.data_handle(), F) &&
         aligned_16(a.data_handle(), F);
}

// pre(r) = w(e) x(r) + bias(e) (arity F) and a(r) = act(pre(r)) (F), of pre as it is rounded. In an
// infer pass nobody reads pre afterwards, so that it need not be written.
template <class ExecT, class ActivationT, class T>
void up_activated(ExecT const& exec,
                  RowGroups<ExecT> const& groups,
                  IndexedRows<T, ExecT> const& x,
                  View<T const, 3, ExecT> w,     // (L, arity F, D)
                  View<T const, 2, ExecT> bias,  // (L, arity F) or empty
                  ActivationT const& activation,
                  Pass,
                  View<T, 2, ExecT> pre,  // (R, arity F), or empty: see activates_products()
                  View<T, 2, ExecT> a)    // (R, F)
{
  Tensor<T, 2, ExecT> made;
  if (pre.empty() && activates_products(exec)) {
    if (groups.experts() <= 0 || groups.rows == 0 || a.extent(1) == 0) { return; }
    if constexpr (requires { requires !ExecT::computes; }) {  // MemoryMeter, as Cuda does
      if (exec.hopper() && fits_activated_product(groups, x, w, bias, pre, a)) { return; }
    }
    made = Tensor<T, 2, ExecT>(exec, a.extent(0), ActivationT::arity * a.extent(1));
    pre  = made.view();
  }
  grouped_gemm_rows(exec, groups, x, Transpose::yes, w, bias, pre);
  activate(exec, groups, ActivateRow<ActivationT, T, ExecT>{activation, pre, a});
}

// What ActivateBackwardRow says, da = W_out^T dy first. The rows of `dx` that belong to `groups`
// are free for partial results.
template <class ExecT, class ActivationT, class T>
void down_backward(ExecT const& exec,
                   RowGroups<ExecT> const& groups,
                   View<T const, 3, ExecT> w,  // (L, D, F)
                   ActivateBackwardRow<ActivationT, T, ExecT> const& row,
                   View<T, 2, ExecT>)  // (R, D)
{
  grouped_gemm_rows(exec, groups, row.dy, Transpose::no, w, View<T const, 2, ExecT>{}, row.da);
  activate_backward(exec, groups, row);
}

}  // namespace moe::detail
