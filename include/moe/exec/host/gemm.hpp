#pragma once
// The dense product on Host (contract: exec/gemm.hpp).
#include <concepts>
#include <type_traits>

#include <moe/exec/gemm.hpp>
#include <moe/exec/host/blas.hpp>
#include <moe/exec/host/product.hpp>

namespace moe {
namespace detail {

template <class V, int Rank>
concept HostView =
    std::same_as<V, View<typename V::element_type, Rank, Host>> && Element<typename V::value_type>;

template <class... Ts>
using common_accumulator_t =
    std::conditional_t<(std::same_as<std::remove_const_t<Ts>, double> || ...), double, float>;

// op(a): lanes are its rows, k its columns; op(b): the other way round.
template <class S, class T>
Operand<S> left_operand(T const* base, index_t columns, Id const* index, Transpose t)
{
  return operand<S, MicroTile<S>::rows>(base, columns, index, t == Transpose::no);
}
template <class S, class T>
Operand<S> right_operand(T const* base, index_t columns, Id const* index, Transpose t)
{
  return operand<S, MicroTile<S>::columns>(base, columns, index, t == Transpose::yes);
}

template <class S, class T>
ProductResult<S> product_result(T* base, Result result)
{
  return {base, result == Result::add, &store_row<S, T>, nullptr, nullptr};
}

}  // namespace detail

template <detail::HostView<2> A, detail::HostView<2> B, detail::HostView<2> C>
void gemm(Host const& exec, Transpose ta, A a, Transpose tb, B b, Result result, C c)
{
  index_t const m = c.extent(0), n = c.extent(1);
  index_t const k = a.extent(ta == Transpose::no ? 1 : 0);
  Check const check{"moe::gemm"};
  check.equal("rows of op(a)", a.extent(ta == Transpose::no ? 0 : 1), "rows of c", m);
  check.equal("columns of op(b)", b.extent(tb == Transpose::no ? 1 : 0), "columns of c", n);
  check.equal("rows of op(b)", b.extent(tb == Transpose::no ? 0 : 1), "columns of op(a)", k);
#if defined(MOE_WITH_CBLAS)
  if (detail::blas_gemm(exec, ta, a, tb, b, result, c)) { return; }
#endif
  using S = detail::
      common_accumulator_t<typename A::value_type, typename B::value_type, typename C::value_type>;
  detail::ProductCall<S> const call{
      .a     = detail::left_operand<S>(a.data_handle(), a.extent(1), nullptr, ta),
      .b     = detail::right_operand<S>(b.data_handle(), b.extent(1), nullptr, tb),
      .c     = detail::product_result<S>(c.data_handle(), result),
      .n     = n,
      .parts = {.kind = detail::ProductParts::one, .count = 1, .m = m, .k = k, .w_rows = 0}};
  detail::run_products(exec, call);
}

}  // namespace moe
