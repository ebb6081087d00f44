#pragma once
// Contract: a dispatcher brings rows and experts together, dispatch -> experts -> combine, and
// back. It is a transport and a schedule; it calls the expert kernel itself, because how often and
// on which rows is exactly what dispatchers differ in, and it owns the combine.
#include <concepts>

#include <moe/comm/communicator.hpp>
#include <moe/dispatch/expert_partition.hpp>
#include <moe/expert/expert_kernel.hpp>
#include <moe/expert/schedule.hpp>

namespace moe {

// One batch of tokens on its way: what routing and plan decided.
template <class T, class ExecT>
struct DispatchInput {
  TokenAssignments<ExecT> assignments;
  RoutingPlan<ExecT> const& plan;
  View<accumulator_t<T> const, 1, ExecT> weight;  // (A)
  View<T const, 2, ExecT> x;                      // (T, D)
};

//   communicator()                what plan, capacity and losses count with
//   layout<CapacityT>             how it wants the slots
//   Saved<T, ExecT, KernelT>      what forward keeps: the kernel's, and rows that arrived
//   Work<T, ExecT, KernelT>       scratch of one backward pass
//   make_saved, make_work         allocate; work for what a forward saved
//   experts_here(E)               optional: which experts are here, where that is not all of them
//   evaluate(exec, in, experts, addend, y)
//   forward(exec, in, experts, saved, addend, y)
// and back in three steps, because the gate's dx needs d_weight and is the addend of dx:
//   backward_data(exec, in, experts, saved, dy, work, d_weight)      d_weight (A), 0 where dropped
//   combine_backward(exec, in, work, addend, dx)
//   backward_weights(exec, in, experts, saved, dy, work, grads, result)
// `result` is for the kernel and Result::add for one that only adds; with
// Result::overwrite each local expert, with rows or without, is in the groups of exactly one call.
template <class D>
concept HasCommunicator = requires(D const d) {
  { d.communicator() } -> HasRank;
};

template <class D, class CapacityT>
concept HasSlotLayout = requires {
  { D::template layout<CapacityT> } -> std::convertible_to<SlotLayout>;
};

template <class D>
concept SplitsExperts = requires(D const d, index_t experts) {
  { d.experts_here(experts) } -> std::same_as<ExpertRange>;
};

template <class D, class KernelT, class T, class ExecT>
concept HasDispatchState = requires(D const d,
                                    ExecT const exec,
                                    KernelT const kernel,
                                    ExpertLayout<typename KernelT::Sizes> const sizes,
                                    typename D::template Saved<T, ExecT, KernelT> const saved,
                                    index_t rows) {
  {
    d.template make_saved<T>(exec, kernel, sizes, rows)
  } -> std::same_as<typename D::template Saved<T, ExecT, KernelT>>;
  {
    d.template make_work<T>(exec, kernel, sizes, saved, rows)
  } -> std::same_as<typename D::template Work<T, ExecT, KernelT>>;
};

template <class D, class KernelT, class T, class ExecT>
concept HasDispatchForward =
    requires(D const d,
             ExecT const exec,
             DispatchInput<T, ExecT> const in,
             BoundExperts<KernelT, typename KernelT::template Params<T const, ExecT>> const experts,
             typename D::template Saved<T, ExecT, KernelT>& saved,
             View<accumulator_t<T> const, 2, ExecT> addend,
             View<T, 2, ExecT> y) {
      { d.evaluate(exec, in, experts, addend, y) } -> std::same_as<void>;
      { d.forward(exec, in, experts, saved, addend, y) } -> std::same_as<void>;
    };

template <class D, class KernelT, class T, class ExecT>
concept HasDispatchBackward =
    requires(D const d,
             ExecT const exec,
             DispatchInput<T, ExecT> const in,
             BoundExperts<KernelT, typename KernelT::template Params<T const, ExecT>> const experts,
             typename D::template Saved<T, ExecT, KernelT> const& saved,
             View<T const, 2, ExecT> dy,
             typename D::template Work<T, ExecT, KernelT>& work,
             View<accumulator_t<T>, 1, ExecT> d_weight,
             View<accumulator_t<T> const, 2, ExecT> addend,
             View<T, 2, ExecT> dx,
             typename KernelT::template Params<T, ExecT> const grads,
             Result result) {
      { d.backward_data(exec, in, experts, saved, dy, work, d_weight) } -> std::same_as<void>;
      { d.combine_backward(exec, in, work, addend, dx) } -> std::same_as<void>;
      {
        d.backward_weights(exec, in, experts, saved, dy, work, grads, result)
      } -> std::same_as<void>;
    };

template <class D, class KernelT, class T, class ExecT>
concept Dispatcher =
    HasCommunicator<D> && HasDispatchState<D, KernelT, T, ExecT> &&
    HasDispatchForward<D, KernelT, T, ExecT> && HasDispatchBackward<D, KernelT, T, ExecT>;

}  // namespace moe
