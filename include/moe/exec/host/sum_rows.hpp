#pragma once
// Sums over rows on Host. Rows are added in fixed blocks and the blocks in order, so neither
// threads nor chunks show in the bits; the compilers make vectors of the columns.
#include <algorithm>
#include <array>

#include <moe/exec/gemm.hpp>
#include <moe/exec/host.hpp>
#include <moe/exec/host/product_result.hpp>
#include <moe/expert/expert_rows.hpp>

namespace moe {
namespace detail {

struct SumRowsTuning {
  index_t rows;     // of a block; part of the promised order, so not to be changed lightly
  index_t columns;  // of a task
};
inline constexpr SumRowsTuning sum_rows_tuning{.rows = 256, .columns = 256};

template <class S>
using ColumnSums = std::array<S, static_cast<std::size_t>(sum_rows_tuning.columns)>;

// sum (columns) += sum over rows [begin, end) of weight(r) x(r), columns from j
template <class S, class T>
void add_rows(IndexedRows<T, Host> const& x,
              S const* weight,
              index_t begin,
              index_t end,
              index_t j,
              index_t columns,
              S* sum)
{
  for (index_t r = begin; r < end; ++r) {
    T const* const from = x.row(r);
    if (from == nullptr) { continue; }
    S const w = weight == nullptr ? S{1} : weight[r];
    for (index_t i = 0; i < columns; ++i) {
      sum[i] += w * widen<S>(from[j + i]);
    }
  }
}

}  // namespace detail

// out (M) = or += column sums of x (N, M)
template <class T, class G>
void sum_rows(Host const& exec, View<T, 2, Host> x, Result result, View<G, 1, Host> out)
{
  using S         = accumulator_t<T>;
  index_t const N = x.extent(0), M = x.extent(1);
  auto const& tuning = detail::sum_rows_tuning;
  Check{"moe::sum_rows"}.equal("out", out.extent(0), "columns of x", M);
  IndexedRows<std::remove_const_t<T>, Host> const rows{x, {}};
  index_t const parts = (M + tuning.columns - 1) / tuning.columns;
  exec.for_each_task(parts, [&](int, index_t part) {
    index_t const j = part * tuning.columns, columns = std::min(tuning.columns, M - j);
    detail::ColumnSums<S> sum{}, block;
    for (index_t r = 0; r < N; r += tuning.rows) {
      block = {};
      detail::add_rows<S>(rows,
                          static_cast<S const*>(nullptr),
                          r,
                          std::min(N, r + tuning.rows),
                          j,
                          columns,
                          block.data());
      for (std::size_t i = 0; i < block.size(); ++i) {
        sum[i] += block[i];
      }
    }
    detail::store_row<S, G>(out.data_handle(), j, columns, sum.data(), result == Result::add);
  });
}

// out (L, M): out(e) = or += sum over rows r of expert e of weight(r) x(r), each sum in row order;
// weight (R), or empty for ones. An expert without rows is left as it is, or becomes zeros.
template <class T, class S, class G>
void grouped_sum_rows(Host const& exec,
                      RowGroups<Host> const& groups,
                      IndexedRows<T, Host> const& x,
                      View<S const, 1, Host> weight,
                      View<G, 2, Host> out,
                      Result result = Result::add)
{
  index_t const M    = out.extent(1);
  auto const& tuning = detail::sum_rows_tuning;
  Check{"moe::grouped_sum_rows"}.equal("columns of x", x.columns(), "columns of out", M);
  index_t const parts = (M + tuning.columns - 1) / tuning.columns;
  exec.for_each_task(groups.experts() * parts, [&](int, index_t task) {
    index_t const e = groups.first + task / parts, j = task % parts * tuning.columns;
    index_t const columns = std::min(tuning.columns, M - j);
    bool const add        = result == Result::add;
    if (add && groups.begin(e) == groups.end(e)) { return; }
    detail::ColumnSums<S> sum{};
    detail::add_rows<S>(
        x, weight.data_handle(), groups.begin(e), groups.end(e), j, columns, sum.data());
    detail::store_row<S, G>(out.data_handle(), e * M + j, columns, sum.data(), add);
  });
}

}  // namespace moe
