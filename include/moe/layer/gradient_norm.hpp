#pragma once
// The norm of a layer's gradient over ranks, in double: each expert counted once, what every rank
// has (gate, shared expert) once too.
#include <cmath>
#include <type_traits>

#include <moe/comm/communicator.hpp>
#include <moe/core/team.hpp>
#include <moe/core/tensor.hpp>

namespace moe::detail {

inline constexpr index_t square_sum_elements = 4096;  // of one sum

[[nodiscard]] constexpr index_t square_sums_of(index_t elements)
{
  return (elements + square_sum_elements - 1) / square_sum_elements;
}

// sums(l, first + c) = the sum of squares of part c of l's elements, in fixed parts.
template <class T, class ExecT>
struct SquareSumRow {
  T const* values;  // (L, each)
  index_t each, parts;
  View<double, 2, ExecT> sums;  // (L, parts of all views)
  index_t first;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    index_t const l = i / parts, begin = i % parts * square_sum_elements;
    index_t const end = begin + square_sum_elements < each ? begin + square_sum_elements : each;
    double sum        = 0;
    for (index_t j = begin + team.lane(); j < end; j += team.size()) {
      auto const v = static_cast<double>(values[l * each + j]);
      sum += v * v;
    }
    sum = team.sum(sum);
    if (team.lane() == 0) { sums(l, first + i % parts) = sum; }
  }
};

// to(l) = the sum of row l
template <class ExecT>
struct SumOfSumsRow {
  View<double const, 2, ExecT> sums;
  double* to;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t l) const
  {
    double sum = 0;
    for (index_t j = team.lane(); j < sums.extent(1); j += team.size()) {
      sum += sums(l, j);
    }
    sum = team.sum(sum);
    if (team.lane() == 0) { to[l] = sum; }
  }
};

// norm = sqrt(sum of the experts' in their order + the rest)
struct NormRow {
  double const* experts;
  index_t count;
  double const* beside;
  double* norm;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t) const
  {
    if (team.lane() != 0) { return; }
    double sum = 0;
    for (index_t e = 0; e < count; ++e) {
      sum += experts[e];
    }
    *norm = std::sqrt(sum + *beside);
  }
};

// to (L): the sum of squares of each of L parts of what `params` visits, whose views are (L, ...).
template <class ExecT, class ParamsT>
void sums_of_squares(ExecT const& exec, ParamsT const& params, index_t L, double* to)
{
  if (L == 0) { return; }
  index_t parts = 0;
  params.for_each([&](char const*, auto const& view, auto const&) {
    parts += square_sums_of(view.size() / L);
  });
  Tensor<double, 2, ExecT> sums(exec, L, parts);
  index_t first = 0;
  params.for_each([&](char const*, auto const& view, auto const&) {
    using T            = typename std::decay_t<decltype(view)>::value_type;
    index_t const each = view.size() / L, n = square_sums_of(each);
    exec.for_each_row(L * n,
                      SquareSumRow<T, ExecT>{view.data_handle(), each, n, sums.view(), first});
    first += n;
  });
  exec.for_each_row(L, SumOfSumsRow<ExecT>{sums.const_view(), to});
}

// norm (1), of L experts here of E, in blocks of them at the ranks in order, and of `beside`.
// Zeros fill up ranks with fewer experts, and change no sum.
template <class ExecT, class CommT, class ExpertsT, class BesideT>
void gradient_norm(ExecT const& exec,
                   CommT const& comm,
                   ExpertsT const& experts,
                   index_t L,
                   index_t E,
                   BesideT const& beside,
                   View<double, 1, ExecT> norm)
{
  index_t const P = comm.size(), most = (E + P - 1) / P;
  Tensor<double, 1, ExecT> mine(exec, most), all(exec, P > 1 ? P * most : 0), rest(exec, 1);
  exec.zero(mine.view().data_handle(), mine.bytes());
  sums_of_squares(exec, experts, L, mine.view().data_handle());
  sums_of_squares(exec, beside, 1, rest.view().data_handle());
  if (P > 1) { comm.all_gather(exec, mine.const_view(), all.view()); }
  auto const gathered = P > 1 ? all.const_view() : mine.const_view();
  exec.for_each_row(1,
                    NormRow{gathered.data_handle(),
                            gathered.size(),
                            rest.const_view().data_handle(),
                            norm.data_handle()});
}

}  // namespace moe::detail
