#pragma once
// The products over the rows of each expert, on Host (contract: exec/gemm.hpp).
#include <moe/exec/host/gemm.hpp>
#include <moe/expert/expert_rows.hpp>

namespace moe {
namespace detail {

inline ProductParts product_parts(
    ProductParts::Kind kind, RowGroups<Host> const& groups, index_t m, index_t k, index_t w_rows)
{
  return {.kind    = kind,
          .count   = groups.experts(),
          .m       = m,
          .k       = k,
          .w_rows  = w_rows,
          .offsets = groups.offsets.data_handle(),
          .counts  = groups.counts.data_handle(),
          .first   = groups.first};
}

}  // namespace detail

// {} is no bias.
template <class A,
          detail::HostView<3> W,
          detail::HostView<2> C,
          detail::HostView<2> Bias = View<typename W::value_type const, 2, Host>>
void grouped_gemm_rows(Host const& exec,
                       RowGroups<Host> const& groups,
                       IndexedRows<A, Host> a,
                       Transpose tw,
                       W w,
                       Bias bias,
                       C c)
{
  index_t const n = c.extent(1), k = a.columns();
  Check const check{"moe::grouped_gemm_rows"};
  check.equal("columns of op(w)", w.extent(tw == Transpose::no ? 2 : 1), "columns of c", n);
  check.equal("rows of op(w)", w.extent(tw == Transpose::no ? 1 : 2), "columns of a", k);
  bool const has_bias = bias.data_handle() != nullptr;
  if (has_bias) { check.equal("columns of the bias", bias.extent(1), "columns of c", n); }
#if defined(MOE_WITH_CBLAS)
  if (detail::blas_grouped_gemm_rows(exec, groups, a, tw, w, bias, c)) { return; }
#endif
  using S = detail::common_accumulator_t<A,
                                         typename W::value_type,
                                         typename Bias::value_type,
                                         typename C::value_type>;
  detail::ProductCall<S> call{
      .a = detail::left_operand<S>(a.base.data_handle(), k, a.index.data_handle(), Transpose::no),
      .b = detail::right_operand<S>(w.data_handle(), w.extent(2), nullptr, tw),
      .c = detail::product_result<S>(c.data_handle(), Result::overwrite),
      .n = n,
      .parts = detail::product_parts(detail::ProductParts::rows, groups, 0, k, w.extent(1))};
  if (has_bias) {
    call.c.bias     = bias.data_handle();
    call.c.add_bias = &detail::add_row<S, typename Bias::value_type>;
  }
  detail::run_products(exec, call);
}

template <class A, class B, detail::HostView<3> G>
void grouped_gemm_weights(Host const& exec,
                          RowGroups<Host> const& groups,
                          IndexedRows<A, Host> a,
                          IndexedRows<B, Host> b,
                          G dw,
                          Result result = Result::add)
{
  index_t const m = dw.extent(1), n = dw.extent(2);
  Check const check{"moe::grouped_gemm_weights"};
  check.equal("columns of a", a.columns(), "rows of dw(e)", m);
  check.equal("columns of b", b.columns(), "columns of dw(e)", n);
#if defined(MOE_WITH_CBLAS)
  if (detail::blas_grouped_gemm_weights(exec, groups, a, b, dw, result)) { return; }
#endif
  using S = detail::common_accumulator_t<A, B, typename G::value_type>;
  detail::ProductCall<S> const call{
      .a = detail::left_operand<S>(a.base.data_handle(), m, a.index.data_handle(), Transpose::yes),
      .b = detail::right_operand<S>(b.base.data_handle(), n, b.index.data_handle(), Transpose::no),
      .c = detail::product_result<S>(dw.data_handle(), result),
      .n = n,
      .parts = detail::product_parts(detail::ProductParts::weights, groups, m, 0, m)};
  detail::run_products(exec, call);
}

}  // namespace moe
