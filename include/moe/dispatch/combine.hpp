#pragma once
// Rows of the experts back to tokens. Every output row has one writer, which adds its K rows in
// order, in fp32 (double in a double layer), and rounds once: no atomics, the same bits every run.
#include <moe/exec/execution_space.hpp>
#include <moe/plan/routing_plan.hpp>

namespace moe {
namespace detail {

// y(t) = addend(t) + sum over a of t, in order, of weight(a) rows(slot_of(a)); without weights they
// are 1, without an addend it is 0.
template <class T, class ExecT>
struct CombineRow {
  using S = accumulator_t<T>;

  TokenAssignments<ExecT> assignments;
  View<Id const, 1, ExecT> slot_of;  // (A)
  View<S const, 1, ExecT> weight;    // (A) or empty
  View<T const, 2, ExecT> rows;      // (R, D)
  View<S const, 2, ExecT> addend;    // (T, D) or empty
  View<T, 2, ExecT> y;               // (T, D)

  // Alone, a lane runs over the choices once for 16 neighbouring columns; lanes that share a row
  // take neighbouring columns.
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    constexpr int width = 16;
    index_t const D     = y.extent(1);
    index_t d           = 0;
    if (team.size() == 1) {
      for (; d + width <= D; d += width) {
        columns<width>(t, d);
      }
    }
    for (d += team.lane(); d < D; d += team.size()) {
      columns<1>(t, d);
    }
  }

 private:
  template <int N>
  MOE_HOST_DEVICE void columns(index_t t, index_t d) const
  {
    Array<S, N> sum;
    for (int i = 0; i < N; ++i) {
      sum[i] = addend.data_handle() == nullptr ? S{0} : addend(t, d + i);
    }
    for (index_t a = assignments.begin(t); a < assignments.end(t); ++a) {
      if (slot_of(a) < 0) { continue; }
      S const w         = weight.data_handle() == nullptr ? S{1} : weight(a);
      T const* const at = rows.data_handle() + slot_of(a) * rows.extent(1) + d;
      for (int i = 0; i < N; ++i) {
        sum[i] += w * static_cast<S>(at[i]);
      }
    }
    for (int i = 0; i < N; ++i) {
      y(t, d + i) = static_cast<T>(sum[i]);
    }
  }
};

}  // namespace detail

// y (T, D) from the experts' rows (R, D).
template <class ExecT, class T>
void combine(ExecT const& exec,
             TokenAssignments<ExecT> const& assignments,
             RoutingPlan<ExecT> const& plan,
             std::type_identity_t<View<accumulator_t<T> const, 1, ExecT>> weight,
             std::type_identity_t<View<T const, 2, ExecT>> rows,
             std::type_identity_t<View<accumulator_t<T> const, 2, ExecT>> addend,
             View<T, 2, ExecT> y)
{
  auto const phase = exec.phase(Phase::combine);
  exec.for_each_row(y.extent(0),
                    detail::CombineRow<T, ExecT>{
                        assignments, plan.slot_of.const_view(), weight, rows, addend, y});
}

}  // namespace moe
