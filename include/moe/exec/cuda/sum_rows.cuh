#pragma once
// Sums over rows on Cuda: fixed blocks of rows, then the blocks in order, so a run's bits are
// fixed.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/core/element.hpp>
#include <moe/core/tensor.hpp>
#include <moe/exec/cuda.cuh>
#include <moe/exec/gemm.hpp>
#include <moe/expert/expert_rows.hpp>

namespace moe {
namespace detail {

struct ColumnSumTuning {
  int threads;  // a column each
  int rows;     // of a block
};
inline constexpr ColumnSumTuning column_sum_tuning{.threads = 128, .rows = 256};

template <class S, class T>
__global__ void __launch_bounds__(column_sum_tuning.threads)
    sum_rows_kernel(View<T const, 2, Cuda> x, View<S, 2, Cuda> partial)
{
  index_t const j = index_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (j >= x.extent(1)) { return; }
  for (index_t b = blockIdx.y; b < partial.extent(0); b += gridDim.y) {
    index_t const begin = b * column_sum_tuning.rows;
    index_t const end =
        begin + column_sum_tuning.rows < x.extent(0) ? begin + column_sum_tuning.rows : x.extent(0);
    S sum = 0;
    for (index_t r = begin; r < end; ++r) {
      sum += static_cast<S>(x(r, j));
    }
    partial(b, j) = sum;
  }
}

template <class S, class G>
__global__ void __launch_bounds__(column_sum_tuning.threads)
    sum_blocks_kernel(View<S const, 2, Cuda> partial, bool add, View<G, 1, Cuda> out)
{
  index_t const j = index_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (j >= out.extent(0)) { return; }
  S sum = 0;
  for (index_t b = 0; b < partial.extent(0); ++b) {
    sum += partial(b, j);
  }
  out(j) = static_cast<G>(add ? static_cast<S>(out(j)) + sum : sum);
}

template <class S, class T, class G>
__global__ void __launch_bounds__(column_sum_tuning.threads)
    grouped_sum_rows_kernel(RowGroups<Cuda> groups,
                            IndexedRows<T, Cuda> x,
                            View<S const, 1, Cuda> weight,
                            bool add,
                            View<G, 2, Cuda> out)
{
  index_t const j = index_t{blockIdx.x} * blockDim.x + threadIdx.x;
  index_t const e = groups.first + index_t{blockIdx.y};
  if (j >= out.extent(1) || (add && groups.begin(e) == groups.end(e))) { return; }
  S sum = 0;
  for (index_t r = groups.begin(e); r < groups.end(e); ++r) {
    T const* const row = x.row(r);
    if (row == nullptr) { continue; }
    sum += (weight.data_handle() == nullptr ? S{1} : weight(r)) * static_cast<S>(row[j]);
  }
  out(e, j) = static_cast<G>(add ? static_cast<S>(out(e, j)) + sum : sum);
}

inline unsigned blocks_for(index_t n, index_t each)
{
  return static_cast<unsigned>((n + each - 1) / each);
}

}  // namespace detail

// out (M) = or += column sums of x (N, M)
template <class T, class G>
MOE_HIDDEN void sum_rows(Cuda const& exec, View<T, 2, Cuda> x, Result result, View<G, 1, Cuda> out)
{
  using V            = std::remove_const_t<T>;
  using S            = accumulator_t<V>;
  auto const& tuning = detail::column_sum_tuning;
  Check{"moe::sum_rows"}.equal("out", out.extent(0), "columns of x", x.extent(1));
  if (out.extent(0) == 0) { return; }
  index_t const blocks = (x.extent(0) + tuning.rows - 1) / tuning.rows;
  Tensor<S, 2, Cuda> partial(exec, blocks, out.extent(0));
  unsigned const columns = detail::blocks_for(out.extent(0), tuning.threads);
  if (blocks > 0) {
    unsigned const rows = blocks < 65535 ? static_cast<unsigned>(blocks) : 65535u;
    detail::launch(&detail::sum_rows_kernel<S, V>,
                   "moe::sum_rows",
                   dim3(columns, rows),
                   dim3(tuning.threads),
                   0,
                   exec.stream(),
                   View<V const, 2, Cuda>(x),
                   partial.view());
  }
  detail::launch(&detail::sum_blocks_kernel<S, G>,
                 "moe::sum_rows",
                 dim3(columns),
                 dim3(tuning.threads),
                 0,
                 exec.stream(),
                 partial.const_view(),
                 result == Result::add,
                 out);
}

// out (L, M): out(e) = or += sum over rows r of expert e of weight(r) x(r), each sum in row order;
// weight (R), or empty for ones. An expert without rows is left as it is, or becomes zeros.
template <class T, class S, class G>
MOE_HIDDEN void grouped_sum_rows(Cuda const& exec,
                                 RowGroups<Cuda> const& groups,
                                 IndexedRows<T, Cuda> const& x,
                                 View<S const, 1, Cuda> weight,
                                 View<G, 2, Cuda> out,
                                 Result result = Result::add)
{
  auto const& tuning = detail::column_sum_tuning;
  Check{"moe::grouped_sum_rows"}.equal(
      "columns of x", x.columns(), "columns of out", out.extent(1));
  if (groups.experts() <= 0 || out.extent(1) == 0) { return; }
  detail::launch(&detail::grouped_sum_rows_kernel<S, T, G>,
                 "moe::grouped_sum_rows",
                 dim3(detail::blocks_for(out.extent(1), tuning.threads),
                      static_cast<unsigned>(groups.experts())),
                 dim3(tuning.threads),
                 0,
                 exec.stream(),
                 groups,
                 x,
                 weight,
                 result == Result::add,
                 out);
}

}  // namespace moe
