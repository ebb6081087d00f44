#pragma once
// The dispatchers of one rank: rows are here already, so they differ in schedule alone.
#include <moe/dispatch/combine.hpp>
#include <moe/dispatch/dispatcher.hpp>
#include <moe/dispatch/permute.hpp>
#include <moe/dispatch/run_experts.hpp>

namespace moe {

template <class ScheduleT>
struct LocalDispatcher {
  ScheduleT schedule{};

  template <class CapacityT>
  static constexpr SlotLayout layout   = ScheduleT::template layout<CapacityT>;
  static constexpr bool needs_capacity = NeedsCapacity<ScheduleT>;

  [[nodiscard]] static constexpr SelfCommunicator communicator() { return {}; }

  template <class T, class ExecT, class KernelT>
  using Saved = typename KernelT::template Saved<T, ExecT>;

  template <class T, class ExecT, class KernelT>
  struct Work {
    typename KernelT::template Carry<T, ExecT> carry;
    Tensor<T, 2, ExecT> dx_rows;                                    // (R, D)
    Tensor<accumulator_t<T>, 1, ExecT> weight_rows, d_weight_rows;  // (R)
  };

  template <class T, class ExecT, class KernelT>
  [[nodiscard]] auto make_saved(ExecT const& exec,
                                KernelT const& kernel,
                                ExpertLayout<typename KernelT::Sizes> const& sizes,
                                index_t rows) const
  {
    return kernel.template make_saved<T>(exec, sizes, rows);
  }
  template <class T, class ExecT, class KernelT>
  [[nodiscard]] Work<T, ExecT, KernelT> make_work(
      ExecT const& exec,
      KernelT const& kernel,
      ExpertLayout<typename KernelT::Sizes> const& sizes,
      Saved<T, ExecT, KernelT> const&,
      index_t rows) const
  {
    using S = accumulator_t<T>;
    return {kernel.template make_carry<T>(exec, sizes, rows),
            Tensor<T, 2, ExecT>(exec, rows, sizes.hidden),
            Tensor<S, 1, ExecT>(exec, rows),
            Tensor<S, 1, ExecT>(exec, rows)};
  }

  template <class ExecT, class T, class ExpertsT>
  void evaluate(ExecT const& exec,
                DispatchInput<T, ExecT> const& in,
                ExpertsT const& experts,
                View<accumulator_t<T> const, 2, ExecT> addend,
                View<T, 2, ExecT> y) const
  {
    detail::ExpertOutput<T, ExecT, decltype(experts.kernel)> rows(
        exec, experts, in.plan.rows(), Pass::infer);
    detail::infer_experts(exec, schedule, experts, in.plan.groups(), rows_of(in, in.x), rows);
    combine(exec, in.assignments, in.plan, in.weight, rows.out.const_view(), addend, y);
  }

  template <class ExecT, class T, class ExpertsT, class SavedT>
  void forward(ExecT const& exec,
               DispatchInput<T, ExecT> const& in,
               ExpertsT const& experts,
               SavedT& saved,
               View<accumulator_t<T> const, 2, ExecT> addend,
               View<T, 2, ExecT> y) const
  {
    detail::ExpertOutput<T, ExecT, decltype(experts.kernel)> rows(
        exec, experts, in.plan.rows(), Pass::forward);
    detail::forward_experts(
        exec, schedule, experts, in.plan.groups(), rows_of(in, in.x), saved, rows);
    combine(exec, in.assignments, in.plan, in.weight, rows.out.const_view(), addend, y);
  }

  // -- and back --

  template <class ExecT, class T, class ExpertsT, class SavedT, class WorkT>
  void backward_data(ExecT const& exec,
                     DispatchInput<T, ExecT> const& in,
                     ExpertsT const& experts,
                     SavedT const& saved,
                     View<T const, 2, ExecT> dy,
                     WorkT& work,
                     View<accumulator_t<T>, 1, ExecT> d_weight) const
  {
    to_slots(exec, in.plan, in.weight, work.weight_rows.view());
    detail::backward_experts_data(exec,
                                  schedule,
                                  experts,
                                  saved,
                                  in.plan.groups(),
                                  rows_of(in, in.x),
                                  rows_of(in, dy),
                                  work.weight_rows.const_view(),
                                  work);
    from_slots(exec, in.plan, work.d_weight_rows.const_view(), d_weight);
  }

  template <class ExecT, class T, class WorkT>
  void combine_backward(ExecT const& exec,
                        DispatchInput<T, ExecT> const& in,
                        WorkT const& work,
                        View<accumulator_t<T> const, 2, ExecT> addend,
                        View<T, 2, ExecT> dx) const
  {
    combine(exec, in.assignments, in.plan, {}, work.dx_rows.const_view(), addend, dx);
  }

  template <class ExecT, class T, class ExpertsT, class SavedT, class WorkT, class GradsT>
  void backward_weights(ExecT const& exec,
                        DispatchInput<T, ExecT> const& in,
                        ExpertsT const& experts,
                        SavedT const& saved,
                        View<T const, 2, ExecT> dy,
                        WorkT& work,
                        GradsT const& grads,
                        Result result) const
  {
    detail::backward_experts_weights(exec,
                                     schedule,
                                     experts,
                                     saved,
                                     in.plan.groups(),
                                     rows_of(in, in.x),
                                     rows_of(in, dy),
                                     work.weight_rows.const_view(),
                                     work,
                                     grads,
                                     result);
  }

 private:
  template <class T, class ExecT>
  static IndexedRows<T, ExecT> rows_of(DispatchInput<T, ExecT> const& in,
                                       View<T const, 2, ExecT> base)
  {
    return {base, in.plan.token_at.const_view()};
  }
};

// One expert at a time: the readable reference, and the baseline that shows what running experts
// one by one wastes.
using SerialDispatcher = LocalDispatcher<SerialSchedule>;

// All experts at once: ragged when nothing is dropped, padded to capacity otherwise;
// BatchedDispatcher<PaddedSchedule> or <BatchedSchedule> insists on one of them.
template <class ScheduleT = AutomaticBatch>
struct BatchedDispatcher : LocalDispatcher<ScheduleT> {};

}  // namespace moe
