#pragma once
// A float operand times a BFloat16 one by cuBLAS (sizes: exec/split_shape.hpp).
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/core/element.hpp>
#include <moe/core/tensor.hpp>
#include <moe/exec/cuda.cuh>
#include <moe/exec/cuda/cublas_product.cuh>
#include <moe/exec/gemm.hpp>
#include <moe/exec/split_shape.hpp>

namespace moe {
namespace detail {

template <class TA, class TB>
inline constexpr bool split_operands =
    (std::is_same_v<TA, float> && std::is_same_v<TB, BFloat16>) ||
    (std::is_same_v<TA, BFloat16> && std::is_same_v<TB, float>);

// Three matrices (M, N), below each other or side by side.
struct SplitPlaces {
  SplitPlaces(index_t rows, index_t columns, bool below)
      : row{below ? columns : split_parts * columns}, part{below ? rows * columns : columns}
  {
  }
  index_t row, part;  // from one to the next, in elements
};

// A float as a sum of three BFloat16, exact but for what underflows or rounds to infinity, so that
// tensor cores can multiply it with BFloat16 without loss. What is not finite becomes NaN. The
// smallest part comes first, so that a sum over all three is still small while it takes them.
struct SplitRow {
  View<float const, 2, Cuda> from;  // (M, N)
  SplitPlaces places;
  BFloat16* to;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    for (index_t i = team.lane(); i < from.extent(1); i += team.size()) {
      BFloat16* const at = to + r * places.row + i;
      float rest         = from(r, i);
      for (int part = split_parts - 1; part >= 0; --part) {
        BFloat16 const nearest(rest);
        at[part * places.part] = nearest;
        rest -= static_cast<float>(nearest);
      }
    }
  }
};

struct CopyToParts {
  BFloat16 const* from;  // (M, N)
  index_t columns;
  SplitPlaces places;
  BFloat16* to;
  MOE_HOST_DEVICE void operator()(index_t i) const
  {
    BFloat16* const at = to + i / columns * places.row + i % columns;
    for (int part = 0; part < split_parts; ++part) {
      at[part * places.part] = from[i];
    }
  }
};

// c = or += the sum of its parts' results in all slices, the small ones first; rounded once.
template <class C>
struct AddParts {
  float const* results;
  index_t columns, slices, slice;  // of c; elements of a slice's results
  SplitPlaces places;
  bool add;
  C* c;  // (M, N)
  MOE_HOST_DEVICE void operator()(index_t i) const
  {
    float const* const at = results + i / columns * places.row + i % columns;
    float sum             = 0;
    for (int part = 0; part < split_parts; ++part) {
      for (index_t s = 0; s < slices; ++s) {
        sum += at[part * places.part + s * slice];
      }
    }
    c[i] = static_cast<C>(add ? static_cast<float>(c[i]) + sum : sum);
  }
};

// A row-major operand of which slices along k are taken.
struct SlicedOperand {
  BFloat16 const* at;
  index_t stride;  // from row to row
  bool k_is_rows;
  [[nodiscard]] index_t step(index_t n) const { return k_is_rows ? n * stride : n; }
};

// Slice s of c, at c + s m n, = op(a) op(b) + beta c over the numbers [s k, (s + 1) k) of the sum.
inline void cublas_slices(Cuda const& exec,
                          SlicedOperand const& a,
                          SlicedOperand const& b,
                          index_t m,
                          index_t n,
                          index_t k,
                          index_t slices,
                          float beta,
                          float* c)
{
  if (m == 0 || n == 0) { return; }
  float const alpha = 1;
  MOE_CUBLAS_TRY(cublasGemmStridedBatchedEx_64(exec.cublas(),
                                               b.k_is_rows ? CUBLAS_OP_N : CUBLAS_OP_T,
                                               a.k_is_rows ? CUBLAS_OP_T : CUBLAS_OP_N,
                                               n,
                                               m,
                                               k,
                                               &alpha,
                                               b.at,
                                               CUDA_R_16BF,
                                               b.stride,
                                               b.step(k),
                                               a.at,
                                               CUDA_R_16BF,
                                               a.stride,
                                               a.step(k),
                                               &beta,
                                               c,
                                               CUDA_R_32F,
                                               n,
                                               m * n,
                                               slices,
                                               CUBLAS_COMPUTE_32F,
                                               CUBLAS_GEMM_DEFAULT));
}

// The whole sum over k in slices, then what is left after them.
inline void sliced_product(Cuda const& exec,
                           SplitShape const& shape,
                           SlicedOperand a,
                           SlicedOperand b,
                           index_t m,
                           index_t n,
                           float* results)
{
  index_t const k = shape.slice(), done = shape.slices * k;
  cublas_slices(exec, a, b, m, n, k, shape.slices, 0, results);
  if (done == shape.k) { return; }
  a.at += a.step(done);
  b.at += b.step(done);
  cublas_slices(exec, a, b, m, n, shape.k - done, 1, 1, results);
}

template <class TA, class TB, class C>
void split_product(Cuda const& exec,
                   Transpose ta,
                   View<TA const, 2, Cuda> a,
                   Transpose tb,
                   View<TB const, 2, Cuda> b,
                   Result result,
                   View<C, 2, Cuda> c)
{
  constexpr bool of_a = std::is_same_v<TA, float>;
  index_t const m = c.extent(0), n = c.extent(1), k = a.extent(ta == Transpose::no ? 1 : 0);
  bool const a_k_is_rows = ta == Transpose::yes, b_k_is_rows = tb == Transpose::no;
  bool const add = result == Result::add;
  SplitShape const shape(of_a ? m : n, of_a ? n : m, k);

  Tensor<BFloat16, 1, Cuda> parts(exec, shape.parts()), copies(exec, shape.copies());
  auto const split = [&](View<float const, 2, Cuda> x, bool k_is_rows) {
    SplitPlaces const places(x.extent(0), x.extent(1), k_is_rows == shape.along_k);
    exec.for_each_row(x.extent(0), SplitRow{x, places, parts.view().data_handle()});
    return parts.const_view().data_handle();
  };
  // The other operand, as it is or once for each part.
  auto const beside = [&](View<BFloat16 const, 2, Cuda> x, bool k_is_rows) {
    if (!shape.along_k) { return x.data_handle(); }
    SplitPlaces const places(x.extent(0), x.extent(1), k_is_rows);
    for_each_number(exec,
                    x.size(),
                    CopyToParts{x.data_handle(), x.extent(1), places, copies.view().data_handle()});
    return copies.const_view().data_handle();
  };
  BFloat16 const *of_a_at, *of_b_at;
  if constexpr (of_a) {
    of_a_at = split(a, a_k_is_rows);
    of_b_at = beside(b, b_k_is_rows);
  } else {
    of_a_at = beside(a, a_k_is_rows);
    of_b_at = split(b, b_k_is_rows);
  }

  if (shape.along_k) {
    auto const product = [&](float beta, float* to) {
      cublas_product(exec, ta, of_a_at, tb, of_b_at, m, n, split_parts * k, beta, to);
    };
    if constexpr (std::is_same_v<C, float>) {
      product(add ? 1 : 0, c.data_handle());
    } else {
      Tensor<float, 2, Cuda> rounded_later(exec, m, n);
      product(0, rounded_later.view().data_handle());
      exec.for_each_row(m, StoreRow<C>{rounded_later.const_view(), add, c});
    }
    return;
  }
  index_t const all_m = of_a ? split_parts * m : m, all_n = of_a ? n : split_parts * n;
  Tensor<float, 1, Cuda> results(exec, shape.results());
  float* const to = results.view().data_handle();
  if (shape.slices == 1) {
    cublas_product(exec, ta, of_a_at, tb, of_b_at, all_m, all_n, k, 0, to);
  } else {
    sliced_product(exec,
                   shape,
                   {of_a_at, a_k_is_rows ? all_m : k, a_k_is_rows},
                   {of_b_at, b_k_is_rows ? all_n : k, b_k_is_rows},
                   all_m,
                   all_n,
                   to);
  }
  for_each_number(
      exec,
      c.size(),
      AddParts<C>{
          to, n, shape.slices, all_m * all_n, SplitPlaces(m, n, of_a), add, c.data_handle()});
}

}  // namespace detail
}  // namespace moe
