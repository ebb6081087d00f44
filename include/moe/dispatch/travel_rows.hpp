#pragma once
// Packing: rows and numbers in the order in which they travel.
#include <moe/core/tensor.hpp>
#include <moe/exec/execution_space.hpp>
#include <moe/expert/expert_rows.hpp>

namespace moe {
namespace detail {

template <class T, class ExecT>
struct PackRow {
  IndexedRows<T, ExecT> from;
  View<T, 2, ExecT> to;  // (N, D)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    T const* const source = from.row(r);
    T* const target       = to.data_handle() + r * to.extent(1);
    if (source == nullptr) {
      for (index_t d = team.lane(); d < to.extent(1); d += team.size()) {
        target[d] = T{};
      }
      return;
    }
    for (index_t d = team.lane(); d < to.extent(1); d += team.size()) {
      target[d] = source[d];
    }
  }
};

template <class S, class ExecT>
struct PackNumber {
  View<S const, 1, ExecT> from;
  View<Id const, 1, ExecT> index;  // (N)
  View<S, 1, ExecT> to;            // (N)
  MOE_HOST_DEVICE void operator()(index_t i) const { to(i) = from(index(i)); }
};

template <class T, class ExecT>
View<T, 1, ExecT> flat(View<T, 2, ExecT> rows)
{
  return View<T, 1, ExecT>(rows.data_handle(), rows.size());
}

// Rows [first, first + rows) of a buffer.
template <class ExecT, class T>
View<T, 2, ExecT> rows_from(Tensor<T, 2, ExecT>& buffer, index_t first, index_t rows)
{
  index_t const width = buffer.extent(1);
  return View<T, 2, ExecT>(buffer.view().data_handle() + first * width, rows, width);
}

template <class ExecT, class T>
View<T, 1, ExecT> part(View<T, 1, ExecT> of, index_t from, index_t n)
{
  return View<T, 1, ExecT>(of.data_handle() + from, n);
}

// Makes `numbers` n long; memory that is so already stays, as a captured graph needs it.
template <class ExecT, class S>
void make_numbers(ExecT const& exec, index_t n, Tensor<S, 1, ExecT>& numbers)
{
  if (numbers.extent(0) != n) { numbers = Tensor<S, 1, ExecT>(exec, n); }
}

}  // namespace detail

// to(r) = from.row(r), r < rows; the index names a row for each of them, -1 a row of zeros. A space
// may have an overload (dispatch/cuda/gather_rows.cuh).
template <class ExecT, class T>
void gather_rows(ExecT const& exec,
                 IndexedRows<T, ExecT> const& from,
                 index_t rows,
                 View<T, 2, ExecT> to)
{
  exec.for_each_row(rows, detail::PackRow<T, ExecT>{from, to});
}

// to(i) = from(index(i))
template <class ExecT, class S>
void gather_numbers(ExecT const& exec,
                    std::type_identity_t<View<S const, 1, ExecT>> from,
                    View<Id const, 1, ExecT> index,
                    View<S, 1, ExecT> to)
{
  detail::for_each_number(exec, to.extent(0), detail::PackNumber<S, ExecT>{from, index, to});
}

}  // namespace moe
