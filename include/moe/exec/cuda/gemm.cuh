#pragma once
// The dense product on Cuda (contract: exec/gemm.hpp): by cuBLAS, or the library's own.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/core/element.hpp>
#include <moe/core/tensor.hpp>
#include <moe/exec/cuda.cuh>
#include <moe/exec/cuda/cublas_product.cuh>
#include <moe/exec/cuda/plain_gemm.cuh>
#include <moe/exec/cuda/split_gemm.cuh>
#include <moe/exec/gemm.hpp>

namespace moe {
namespace detail {

template <class T>
struct ToFloatRow {
  View<T const, 2, Cuda> from;
  View<float, 2, Cuda> to;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    for (index_t i = team.lane(); i < from.extent(1); i += team.size()) {
      to(r, i) = static_cast<float>(from(r, i));
    }
  }
};

// x in floats: itself, or a copy in `memory`.
template <class T>
View<float const, 2, Cuda> as_float(Cuda const& exec,
                                    View<T const, 2, Cuda> x,
                                    Tensor<float, 2, Cuda>& memory)
{
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    memory = Tensor<float, 2, Cuda>(exec, x.extent(0), x.extent(1));
    exec.for_each_row(x.extent(0), ToFloatRow<T>{x, memory.view()});
    return memory.const_view();
  }
}

// c (m, n) in floats, of operands that cuBLAS does not multiply with one another.
template <class TA, class TB>
void float_product(Cuda const& exec,
                   Transpose ta,
                   View<TA const, 2, Cuda> a,
                   Transpose tb,
                   View<TB const, 2, Cuda> b,
                   float beta,
                   View<float, 2, Cuda> c)
{
  index_t const m = c.extent(0), n = c.extent(1), k = a.extent(ta == Transpose::no ? 1 : 0);
  Tensor<float, 2, Cuda> a_memory, b_memory;
  auto const fa = as_float<TA>(exec, a, a_memory), fb = as_float<TB>(exec, b, b_memory);
  cublas_product(exec, ta, fa.data_handle(), tb, fb.data_handle(), m, n, k, beta, c.data_handle());
}

}  // namespace detail

template <class A, class B, class C>
void gemm(Cuda const& exec,
          Transpose ta,
          View<A, 2, Cuda> a,
          Transpose tb,
          View<B, 2, Cuda> b,
          Result result,
          View<C, 2, Cuda> c)
{
  using TA        = std::remove_const_t<A>;
  using TB        = std::remove_const_t<B>;
  index_t const m = c.extent(0), n = c.extent(1);
  index_t const k = a.extent(ta == Transpose::no ? 1 : 0);
  Check const check{"moe::gemm"};
  check.equal("rows of op(a)", a.extent(ta == Transpose::no ? 0 : 1), "rows of c", m);
  check.equal("columns of op(b)", b.extent(tb == Transpose::no ? 1 : 0), "columns of c", n);
  check.equal("rows of op(b)", b.extent(tb == Transpose::no ? 0 : 1), "columns of op(a)", k);
  float const beta = result == Result::add ? 1 : 0;
  if (k == 0) {
    if (result == Result::overwrite) {
      exec.zero(c.data_handle(), static_cast<std::size_t>(c.size()) * sizeof(C));
    }
    return;
  }
  if (exec.products() == Products::own) {
    return detail::plain_gemm<TA, TB, C>(exec, ta, a, tb, b, result, c);
  }
  if constexpr (std::is_same_v<TA, TB> && (std::is_same_v<C, TA> || std::is_same_v<C, float>)) {
    detail::cublas_product(
        exec, ta, a.data_handle(), tb, b.data_handle(), m, n, k, beta, c.data_handle());
  } else if constexpr (detail::split_operands<TA, TB>) {
    detail::split_product<TA, TB, C>(exec, ta, a, tb, b, result, c);
  } else {
    // cuBLAS has no mixed operands: in floats, and rounded once where the result is narrower.
    if constexpr (std::is_same_v<C, float>) {
      detail::float_product<TA, TB>(exec, ta, a, tb, b, beta, c);
    } else {
      Tensor<float, 2, Cuda> product(exec, m, n);
      detail::float_product<TA, TB>(exec, ta, a, tb, b, 0, product.view());
      exec.for_each_row(m, detail::StoreRow<C>{product.const_view(), result == Result::add, c});
    }
  }
}

}  // namespace moe
