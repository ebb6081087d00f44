#pragma once
// An FFN's products with what follows each of them; a space may have them in one. These
// compositions say what those must give.
#include <moe/exec/gemm.hpp>
#include <moe/expert/expert_kernel.hpp>
#include <moe/expert/ffn_rows.hpp>

namespace moe::detail {

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
                  View<T, 2, ExecT> pre,  // (R, arity F)
                  View<T, 2, ExecT> a)    // (R, F)
{
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
