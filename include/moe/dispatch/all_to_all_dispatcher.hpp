#pragma once
// Experts spread over ranks: rows travel to the rank of their expert and their outputs back, where
// the combine is the local dispatchers' own. A rank's tokens are a block of the global batch, in
// the order of ranks, so experts see their rows in global (token, k) order and give the bits that
// one rank with all tokens gives.
#include <concepts>
#include <memory>
#include <type_traits>

#include <moe/dispatch/exchange.hpp>
#include <moe/dispatch/local_dispatcher.hpp>
#include <moe/dispatch/travel.hpp>

namespace moe {

struct AllToAllOptions {
  // Every call first compares what the ranks were called with (a small collective, for which the
  // host waits); off where the caller knows them to be alike.
  bool compare_calls = true;
};

// A communicator that can be copied is a handle and is copied; one that owns is referred to, and
// must outlive the dispatcher.
template <class CommT,
          class ScheduleT = BatchedSchedule,
          class ExchangeT = FlatExchange,
          class RowsT     = EachChoice>
class AllToAllDispatcher {
  static_assert(HasRank<CommT>, "moe::AllToAllDispatcher: a communicator has rank() and size()");
  static_assert(!NeedsCapacity<ScheduleT>,
                "moe::AllToAllDispatcher: rows arrive in compact slots, use BatchedSchedule or "
                "SerialSchedule");
  using Local = LocalDispatcher<ScheduleT>;

 public:
  explicit AllToAllDispatcher(CommT const& comm,
                              AllToAllOptions options = {},
                              ScheduleT schedule      = {},
                              ExchangeT exchange      = {},
                              RowsT                   = {})
      : comm_{hold(comm)}, options_{options}, local_{schedule}, exchange_{exchange}
  {
  }

  template <class CapacityT>
  static constexpr SlotLayout layout = SlotLayout::compact;

  [[nodiscard]] CommT const& communicator() const
  {
    if constexpr (held_by_value) {
      return comm_;
    } else {
      return *comm_;
    }
  }
  [[nodiscard]] ExpertRange experts_here(index_t experts) const
  {
    return experts_of_rank(experts, communicator().size(), communicator().rank());
  }
  [[nodiscard]] bool compares_calls() const
  {
    return options_.compare_calls && communicator().size() > 1;
  }

  template <class T, class ExecT, class KernelT>
  struct Saved {
    typename KernelT::template Saved<T, ExecT> experts;
    Travel<ExecT, ExchangeT, RowsT> travel;
    Tensor<T, 2, ExecT> x;                      // rows as they arrived
    Tensor<accumulator_t<T>, 1, ExecT> weight;  // (R) in the order of experts
  };
  template <class T, class ExecT, class KernelT>
  struct Work {
    typename Local::template Work<T, ExecT, KernelT> local;  // of the rows at the experts here
    Tensor<T, 2, ExecT> dy;                                  // rows as they arrived
    Tensor<T, 2, ExecT> dx;                                  // (A, D) rows that came back
  };

  // Where rows travel, their number is known when they arrive: forward makes the rest.
  template <class T, class ExecT, class KernelT>
  [[nodiscard]] Saved<T, ExecT, KernelT> make_saved(
      ExecT const& exec,
      KernelT const& kernel,
      ExpertLayout<typename KernelT::Sizes> const& sizes,
      index_t rows) const
  {
    return {kernel.template make_saved<T>(exec, sizes, alone() ? rows : 0), {}, {}, {}};
  }
  template <class T, class ExecT, class KernelT>
  [[nodiscard]] Work<T, ExecT, KernelT> make_work(
      ExecT const& exec,
      KernelT const& kernel,
      ExpertLayout<typename KernelT::Sizes> const& sizes,
      Saved<T, ExecT, KernelT> const& saved,
      index_t rows) const
  {
    index_t const R = alone() ? rows : saved.travel.plan.rows;
    index_t const D = sizes.hidden;
    return {local_.template make_work<T>(exec, kernel, sizes, saved.experts, R),
            {},
            Tensor<T, 2, ExecT>(exec, alone() ? 0 : rows, D)};
  }

  template <class ExecT, class T, class ExpertsT>
  void evaluate(ExecT const& exec,
                DispatchInput<T, ExecT> const& in,
                ExpertsT const& experts,
                View<accumulator_t<T> const, 2, ExecT> addend,
                View<T, 2, ExecT> y) const
  {
    if (alone()) { return local_.evaluate(exec, in, experts, addend, y); }
    auto const travel = make_travel(exec, in);
    auto const x      = rows_to_experts(exec, in, travel, in.x);
    auto const out    = detail::infer_experts(
        exec, local_.schedule, experts, travel.plan.groups(), arrived(travel, x));
    Tensor<T, 2, ExecT> home(exec, in.plan.rows(), in.x.extent(1));
    rows_to_tokens(exec, travel, out, home.view());
    combine(exec, in.assignments, in.plan, in.weight, home.const_view(), addend, y);
  }

  template <class ExecT, class T, class ExpertsT, class SavedT>
  void forward(ExecT const& exec,
               DispatchInput<T, ExecT> const& in,
               ExpertsT const& experts,
               SavedT& saved,
               View<accumulator_t<T> const, 2, ExecT> addend,
               View<T, 2, ExecT> y) const
  {
    if (alone()) { return local_.forward(exec, in, experts, saved.experts, addend, y); }
    saved.travel     = make_travel(exec, in);
    auto const& plan = saved.travel.plan;
    auto const sizes = experts.params.layout();
    saved.experts    = experts.kernel.template make_saved<T>(exec, sizes, plan.rows);
    saved.x          = rows_to_experts(exec, in, saved.travel, in.x);
    saved.weight     = weights_to_experts(exec, in, saved.travel);
    auto const out   = detail::forward_experts(exec,
                                             local_.schedule,
                                             experts,
                                             plan.groups(),
                                             arrived(saved.travel, saved.x),
                                             saved.experts);
    Tensor<T, 2, ExecT> home(exec, in.plan.rows(), in.x.extent(1));
    rows_to_tokens(exec, saved.travel, out, home.view());
    combine(exec, in.assignments, in.plan, in.weight, home.const_view(), addend, y);
  }

  // -- and back, on the forward's plan --

  template <class ExecT, class T, class ExpertsT, class SavedT, class WorkT>
  void backward_data(ExecT const& exec,
                     DispatchInput<T, ExecT> const& in,
                     ExpertsT const& experts,
                     SavedT const& saved,
                     View<T const, 2, ExecT> dy,
                     WorkT& work,
                     View<accumulator_t<T>, 1, ExecT> d_weight) const
  {
    if (alone()) {
      return local_.backward_data(exec, in, experts, saved.experts, dy, work.local, d_weight);
    }
    work.dy = rows_to_experts(exec, in, saved.travel, dy);
    detail::backward_experts_data(exec,
                                  local_.schedule,
                                  experts,
                                  saved.experts,
                                  saved.travel.plan.groups(),
                                  arrived(saved.travel, saved.x),
                                  arrived(saved.travel, work.dy),
                                  saved.weight.const_view(),
                                  work.local);
    rows_to_tokens(exec, saved.travel, work.local.dx_rows, work.dx.view());
    weights_to_tokens(exec, in, saved.travel, work.local.d_weight_rows, d_weight);
  }

  template <class ExecT, class T, class WorkT>
  void combine_backward(ExecT const& exec,
                        DispatchInput<T, ExecT> const& in,
                        WorkT const& work,
                        View<accumulator_t<T> const, 2, ExecT> addend,
                        View<T, 2, ExecT> dx) const
  {
    auto const& rows = alone() ? work.local.dx_rows : work.dx;
    combine(exec, in.assignments, in.plan, {}, rows.const_view(), addend, dx);
  }

  template <class ExecT, class T, class ExpertsT, class SavedT, class WorkT, class GradsT>
  void backward_weights(ExecT const& exec,
                        DispatchInput<T, ExecT> const& in,
                        ExpertsT const& experts,
                        SavedT const& saved,
                        View<T const, 2, ExecT> dy,
                        WorkT& work,
                        GradsT const& grads) const
  {
    if (alone()) {
      return local_.backward_weights(exec, in, experts, saved.experts, dy, work.local, grads);
    }
    detail::backward_experts_weights(exec,
                                     local_.schedule,
                                     experts,
                                     saved.experts,
                                     saved.travel.plan.groups(),
                                     arrived(saved.travel, saved.x),
                                     arrived(saved.travel, work.dy),
                                     saved.weight.const_view(),
                                     work.local,
                                     grads);
  }

 private:
  static constexpr bool held_by_value = std::copy_constructible<CommT>;
  using Held                          = std::conditional_t<held_by_value, CommT, CommT const*>;

  static Held hold(CommT const& comm)
  {
    if constexpr (held_by_value) {
      return comm;
    } else {
      return std::addressof(comm);
    }
  }
  [[nodiscard]] bool alone() const { return communicator().size() == 1; }

  template <class ExecT>
  using TravelOf = Travel<ExecT, ExchangeT, RowsT>;

  template <class ExecT, class T>
  [[nodiscard]] TravelOf<ExecT> make_travel(ExecT const& exec,
                                            DispatchInput<T, ExecT> const& in) const
  {
    return moe::make_travel<RowsT>(exec, communicator(), exchange_, in.assignments, in.plan);
  }
  template <class ExecT, class T>
  static IndexedRows<T, ExecT> arrived(TravelOf<ExecT> const& travel,
                                       Tensor<T, 2, ExecT> const& rows)
  {
    return {rows.const_view(), travel.arrived_at()};
  }

  // Rows of tokens (T, D) -> rows as they arrive
  template <class ExecT, class T>
  [[nodiscard]] Tensor<T, 2, ExecT> rows_to_experts(ExecT const& exec,
                                                    DispatchInput<T, ExecT> const& in,
                                                    TravelOf<ExecT> const& travel,
                                                    View<T const, 2, ExecT> tokens) const
  {
    static_assert(Exchange<ExchangeT, CommT, T, ExecT>,
                  "moe::AllToAllDispatcher: an exchange has Route, make_route, to_experts and "
                  "to_tokens for this element type and space, see moe/dispatch/exchange.hpp");
    index_t const D    = tokens.extent(1);
    auto const& blocks = travel.token_blocks();
    Tensor<T, 2, ExecT> send(exec, blocks.rows_sent(), D), receive(exec, blocks.rows_received(), D);
    gather_rows(
        exec, IndexedRows<T, ExecT>{tokens, travel.token_at(in.plan)}, send.extent(0), send.view());
    exchange_.to_experts(exec,
                         communicator(),
                         blocks,
                         travel.token_route(),
                         D,
                         detail::flat(send.const_view()),
                         detail::flat(receive.view()));
    return receive;
  }
  // Rows of experts (R, D) -> slots (A, D)
  template <class ExecT, class T>
  void rows_to_tokens(ExecT const& exec,
                      TravelOf<ExecT> const& travel,
                      Tensor<T, 2, ExecT> const& rows,
                      View<T, 2, ExecT> slots) const
  {
    auto const& plan = travel.plan;
    index_t const D  = slots.extent(1);
    Tensor<T, 2, ExecT> send(exec, plan.rows, D);
    gather_rows(exec,
                IndexedRows<T, ExecT>{rows.const_view(), plan.row_of.const_view()},
                plan.rows,
                send.view());
    exchange_.to_tokens(exec,
                        communicator(),
                        plan.blocks,
                        travel.route,
                        D,
                        detail::flat(send.const_view()),
                        detail::flat(slots));
  }
  template <class ExecT, class T>
  [[nodiscard]] auto weights_to_experts(ExecT const& exec,
                                        DispatchInput<T, ExecT> const& in,
                                        TravelOf<ExecT> const& travel) const
  {
    using S          = accumulator_t<T>;
    auto const& plan = travel.plan;
    Tensor<S, 1, ExecT> send(exec, in.plan.rows()), receive(exec, plan.rows), rows(exec, plan.rows);
    to_slots(exec, in.plan, in.weight, send.view());
    exchange_.to_experts(
        exec, communicator(), plan.blocks, travel.route, 1, send.const_view(), receive.view());
    gather_numbers(exec, receive.const_view(), plan.arrived_at.const_view(), rows.view());
    return rows;
  }
  template <class ExecT, class T, class S>
  void weights_to_tokens(ExecT const& exec,
                         DispatchInput<T, ExecT> const& in,
                         TravelOf<ExecT> const& travel,
                         Tensor<S, 1, ExecT> const& rows,
                         View<S, 1, ExecT> of_assignment) const
  {
    auto const& plan = travel.plan;
    Tensor<S, 1, ExecT> send(exec, plan.rows), slots(exec, in.plan.rows());
    gather_numbers(exec, rows.const_view(), plan.row_of.const_view(), send.view());
    exchange_.to_tokens(
        exec, communicator(), plan.blocks, travel.route, 1, send.const_view(), slots.view());
    from_slots(exec, in.plan, slots.const_view(), of_assignment);
  }

  Held comm_;
  AllToAllOptions options_;
  Local local_;
  ExchangeT exchange_;
};

}  // namespace moe
