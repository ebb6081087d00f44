#pragma once
// The dense product on Cuda (contract: exec/gemm.hpp): by cuBLAS, or the library's own.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/core/element.hpp>
#include <moe/core/tensor.hpp>
#include <moe/exec/cuda.cuh>
#include <moe/exec/cuda/plain_gemm.cuh>
#include <moe/exec/gemm.hpp>

namespace moe {
namespace detail {

template <class T>
constexpr cudaDataType cublas_type()
{
  if constexpr (std::is_same_v<T, float>) {
    return CUDA_R_32F;
  } else if constexpr (std::is_same_v<T, Half>) {
    return CUDA_R_16F;
  } else {
    static_assert(std::is_same_v<T, BFloat16>, "moe::Cuda: elements are float, Half or BFloat16");
    return CUDA_R_16BF;
  }
}

// A float as a sum of three BFloat16, exact but for what underflows or rounds to infinity, so that
// tensor cores can multiply it with BFloat16 without loss. What is not finite becomes NaN.
struct SplitRow {
  View<float const, 2, Cuda> from;  // (M, N)
  View<BFloat16, 3, Cuda> to;       // (3, M, N)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    for (index_t i = team.lane(); i < from.extent(1); i += team.size()) {
      float rest = from(r, i);
      for (int part = 0; part < 3; ++part) {
        to(part, r, i) = BFloat16(rest);
        rest -= to(part, r, i);
      }
    }
  }
};

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

template <class C>
struct StoreRow {
  View<float const, 2, Cuda> from;
  bool add;
  View<C, 2, Cuda> to;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    for (index_t i = team.lane(); i < from.extent(1); i += team.size()) {
      to(r, i) = static_cast<C>(add ? static_cast<float>(to(r, i)) + from(r, i) : from(r, i));
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

// Row-major c (m, n) = op(a) op(b) + beta c is column-major c^T = op(b)^T op(a)^T.
template <class T, class C>
void cublas_product(Cuda const& exec,
                    Transpose ta,
                    T const* a,
                    Transpose tb,
                    T const* b,
                    index_t m,
                    index_t n,
                    index_t k,
                    float beta,
                    C* c)
{
  if (m == 0 || n == 0) { return; }
  float const alpha = 1;
  auto const op     = [](Transpose t) { return t == Transpose::no ? CUBLAS_OP_N : CUBLAS_OP_T; };
  auto const stride = [](index_t i) { return i == 0 ? index_t{1} : i; };
  MOE_CUBLAS_TRY(cublasGemmEx_64(exec.cublas(),
                                 op(tb),
                                 op(ta),
                                 n,
                                 m,
                                 k,
                                 &alpha,
                                 b,
                                 cublas_type<T>(),
                                 stride(tb == Transpose::no ? n : k),
                                 a,
                                 cublas_type<T>(),
                                 stride(ta == Transpose::no ? k : m),
                                 &beta,
                                 c,
                                 cublas_type<C>(),
                                 stride(n),
                                 CUBLAS_COMPUTE_32F,
                                 CUBLAS_GEMM_DEFAULT));
}

// c (m, n) in floats, of operands that cuBLAS does not multiply with one another.
template <class TA, class TB>
void mixed_product(Cuda const& exec,
                   Transpose ta,
                   View<TA const, 2, Cuda> a,
                   Transpose tb,
                   View<TB const, 2, Cuda> b,
                   float beta,
                   View<float, 2, Cuda> c)
{
  index_t const m = c.extent(0), n = c.extent(1), k = a.extent(ta == Transpose::no ? 1 : 0);
  auto const product = [&](auto const* of_a, auto const* of_b, float keep) {
    cublas_product(exec, ta, of_a, tb, of_b, m, n, k, keep, c.data_handle());
  };
  auto const split = [&](View<float const, 2, Cuda> x) {
    Tensor<BFloat16, 3, Cuda> parts(exec, 3, x.extent(0), x.extent(1));
    exec.for_each_row(x.extent(0), SplitRow{x, parts.view()});
    return parts;
  };
  if constexpr (std::is_same_v<TA, float> && std::is_same_v<TB, BFloat16>) {
    auto const parts = split(a);
    for (int i = 0; i < 3; ++i) {
      product(&parts.view()(i, 0, 0), b.data_handle(), i == 0 ? beta : 1);
    }
  } else if constexpr (std::is_same_v<TA, BFloat16> && std::is_same_v<TB, float>) {
    auto const parts = split(b);
    for (int i = 0; i < 3; ++i) {
      product(a.data_handle(), &parts.view()(i, 0, 0), i == 0 ? beta : 1);
    }
  } else {
    Tensor<float, 2, Cuda> a_memory, b_memory;
    auto const fa = as_float<TA>(exec, a, a_memory), fb = as_float<TB>(exec, b, b_memory);
    product(fa.data_handle(), fb.data_handle(), beta);
  }
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
  } else {
    // cuBLAS has no mixed operands: in floats, and rounded once where the result is narrower.
    if constexpr (std::is_same_v<C, float>) {
      detail::mixed_product<TA, TB>(exec, ta, a, tb, b, beta, c);
    } else {
      Tensor<float, 2, Cuda> product(exec, m, n);
      detail::mixed_product<TA, TB>(exec, ta, a, tb, b, 0, product.view());
      exec.for_each_row(m, detail::StoreRow<C>{product.const_view(), result == Result::add, c});
    }
  }
}

}  // namespace moe
