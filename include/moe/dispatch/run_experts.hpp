#pragma once
// What every dispatcher does once rows are where their experts are: calls the kernel on them, as
// often as the schedule says. x and dy are rows by reference; out, dx (R, D); weight, d_weight (R).
#include <moe/exec/execution_space.hpp>
#include <moe/expert/gradients.hpp>
#include <moe/expert/schedule.hpp>

namespace moe::detail {

// What a forward pass writes beside what it saves.
template <class T, class ExecT, class KernelT>
struct ExpertOutput {
  template <class ExpertsT>
  ExpertOutput(ExecT const& exec, ExpertsT const& experts, index_t rows, Pass pass)
      : scratch{experts.kernel.template make_scratch<T>(exec, experts.params.layout(), rows, pass)},
        out(exec, rows, experts.params.layout().hidden)
  {
  }
  typename KernelT::template Scratch<T, ExecT> scratch;
  Tensor<T, 2, ExecT> out;  // (R, D)
};

// out(r) = F_e(x_r), keeping nothing
template <class ExecT, class ScheduleT, class ExpertsT, class T, class KernelT>
void infer_experts(ExecT const& exec,
                   ScheduleT const& schedule,
                   ExpertsT const& experts,
                   RowGroups<ExecT> const& groups,
                   IndexedRows<T, ExecT> const& x,
                   ExpertOutput<T, ExecT, KernelT>& to)
{
  auto const phase = exec.phase(Phase::experts);
  schedule.for_each_call(exec, groups, [&](RowGroups<ExecT> const& some) {
    experts.kernel.infer(exec, experts.params, some, x, to.scratch, to.out.view());
  });
}

// The same, writing what backward needs. The output is not kept: backward does without.
template <class ExecT, class ScheduleT, class ExpertsT, class T, class SavedT, class KernelT>
void forward_experts(ExecT const& exec,
                     ScheduleT const& schedule,
                     ExpertsT const& experts,
                     RowGroups<ExecT> const& groups,
                     IndexedRows<T, ExecT> const& x,
                     SavedT& saved,
                     ExpertOutput<T, ExecT, KernelT>& to)
{
  auto const phase = exec.phase(Phase::experts);
  schedule.for_each_call(exec, groups, [&](RowGroups<ExecT> const& some) {
    experts.kernel.forward(exec, experts.params, some, x, saved, to.scratch, to.out.view());
  });
}

// Writes dx_rows, d_weight_rows and the carry of `work`.
template <class ExecT, class ScheduleT, class ExpertsT, class T, class SavedT, class WorkT>
void backward_experts_data(ExecT const& exec,
                           ScheduleT const& schedule,
                           ExpertsT const& experts,
                           SavedT const& saved,
                           RowGroups<ExecT> const& groups,
                           IndexedRows<T, ExecT> const& x,
                           IndexedRows<T, ExecT> const& dy,
                           std::type_identity_t<View<accumulator_t<T> const, 1, ExecT>> weight,
                           WorkT& work)
{
  auto const phase = exec.phase(Phase::experts);
  schedule.for_each_call(exec, groups, [&](RowGroups<ExecT> const& some) {
    experts.kernel.backward_data(exec,
                                 experts.params,
                                 saved,
                                 some,
                                 x,
                                 dy,
                                 weight,
                                 work.carry,
                                 work.dx_rows.view(),
                                 work.d_weight_rows.view());
  });
}

// Adds to grads, or overwrites those of all experts of `groups`, which the kernel must be able to.
template <class ExecT,
          class ScheduleT,
          class ExpertsT,
          class T,
          class SavedT,
          class WorkT,
          class GradsT>
void backward_experts_weights(ExecT const& exec,
                              ScheduleT const& schedule,
                              ExpertsT const& experts,
                              SavedT const& saved,
                              RowGroups<ExecT> const& groups,
                              IndexedRows<T, ExecT> const& x,
                              IndexedRows<T, ExecT> const& dy,
                              std::type_identity_t<View<accumulator_t<T> const, 1, ExecT>> weight,
                              WorkT& work,
                              GradsT const& grads,
                              Result result)
{
  auto const phase = exec.phase(Phase::experts);
  schedule.for_each_call(exec, groups, [&](RowGroups<ExecT> const& some) {
    backward_kernel_weights<T>(
        result, experts.kernel, exec, saved, some, x, dy, weight, work.carry, grads);
  });
}

}  // namespace moe::detail
