#pragma once
// One product by cuBLAS, of operands that it takes as they are.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/core/element.hpp>
#include <moe/core/view.hpp>
#include <moe/exec/cuda.cuh>
#include <moe/exec/gemm.hpp>

namespace moe::detail {

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

}  // namespace moe::detail
