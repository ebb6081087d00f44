#pragma once
// Experts spread over ranks: rows travel to the rank of their expert and their outputs back, where
// the combine is the local dispatchers' own. A rank's tokens are a block of the global batch, in
// the order of ranks, so experts see their rows in global (token, k) order and give the bits that
// one rank with all tokens gives.
#include <concepts>

#include <moe/comm/held.hpp>
#include <moe/dispatch/all_to_all_options.hpp>
#include <moe/dispatch/local_dispatcher.hpp>
#include <moe/dispatch/round_trip.hpp>
#include <moe/dispatch/transport.hpp>

namespace moe {

// A communicator that can be copied is a handle and is copied; one that owns is referred to, and
// must outlive the dispatcher.
template <class CommT,
          class ScheduleT = BatchedSchedule,
          class ExchangeT = FlatExchange,
          class RowsT     = EachChoice,
          class WireT     = ElementWire>
class AllToAllDispatcher {
  static_assert(HasRank<CommT>, "moe::AllToAllDispatcher: a communicator has rank() and size()");
  static_assert(!NeedsCapacity<ScheduleT>,
                "moe::AllToAllDispatcher: rows arrive in compact slots, use BatchedSchedule or "
                "SerialSchedule");
  using Local     = LocalDispatcher<ScheduleT>;
  using Transport = decltype(detail::make_transport(
      std::declval<ExchangeT>(), std::declval<RowsT>(), std::declval<WireT>()));

 public:
  explicit AllToAllDispatcher(CommT const& comm,
                              AllToAllOptions options = {},
                              ScheduleT schedule      = {},
                              ExchangeT exchange      = {},
                              RowsT rows              = {},
                              WireT wire              = {})
      : comm_{comm},
        options_{options},
        local_{schedule},
        transport_{detail::make_transport(exchange, rows, wire)}
  {
    options.check({"moe::AllToAllDispatcher", comm.rank()});
  }

  template <class CapacityT>
  static constexpr SlotLayout layout = SlotLayout::compact;

  [[nodiscard]] CommT const& communicator() const { return comm_.get(); }
  [[nodiscard]] ExpertRange experts_here(index_t experts) const
  {
    return experts_of_rank(experts, communicator().size(), communicator().rank());
  }
  [[nodiscard]] bool compares_calls() const
  {
    return options_.compare_calls && communicator().size() > 1;
  }
  [[nodiscard]] int chunks() const { return options_.chunks; }
  // This dispatcher among other ranks. Rows travel as they do here.
  template <class OtherT>
  [[nodiscard]] auto over(OtherT const& comm) const
  {
    return AllToAllDispatcher<OtherT, ScheduleT, ExchangeT, RowsT, WireT>(
        comm, options_, local_, transport_);
  }

  template <class T, class ExecT, class KernelT>
  struct Saved {
    typename KernelT::template Saved<T, ExecT> experts;
    typename Transport::template Trip<T, ExecT> trip;
    typename Transport::template Arrived<T, ExecT> x;
    Tensor<accumulator_t<T>, 1, ExecT> weight;  // (R) in the order of experts
    index_t rows = 0;                           // for which `experts` was made
  };
  template <class T, class ExecT, class KernelT>
  struct Work {
    typename Local::template Work<T, ExecT, KernelT> local;  // of the rows at the experts here
    typename Transport::template Arrived<T, ExecT> dy;
    typename Transport::template Home<T, ExecT> dx;
    std::vector<typename detail::Overlap<ExecT>::Mark> worked;  // chunks' data
  };

  // Where rows travel, their number is known when they arrive: forward makes the rest. Lanes are
  // made here, not in a step, where a peer that shares the GPU may be waiting on it.
  template <class T, class ExecT, class KernelT>
  [[nodiscard]] Saved<T, ExecT, KernelT> make_saved(
      ExecT const& exec,
      KernelT const& kernel,
      ExpertLayout<typename KernelT::Sizes> const& sizes,
      index_t rows) const
  {
    if (!alone()) { detail::Overlap<ExecT>::make_lanes(exec, options_.chunks); }
    return {kernel.template make_saved<T>(exec, sizes, alone() ? rows : 0), {}, {}, {}, 0};
  }
  template <class T, class ExecT, class KernelT>
  [[nodiscard]] Work<T, ExecT, KernelT> make_work(
      ExecT const& exec,
      KernelT const& kernel,
      ExpertLayout<typename KernelT::Sizes> const& sizes,
      Saved<T, ExecT, KernelT> const& saved,
      index_t rows) const
  {
    index_t const R = alone() ? rows : saved.trip.rows();
    Work<T, ExecT, KernelT> work{
        local_.template make_work<T>(exec, kernel, sizes, saved.experts, R), {}, {}, {}};
    if (!alone()) {
      work.dy = transport_.make_arrived(exec, saved.trip, sizes.hidden, Leg::backward);
      work.dx = transport_.make_home(exec, saved.trip, sizes.hidden);
    }
    return work;
  }

  template <class ExecT, class T, class ExpertsT>
  void evaluate(ExecT const& exec,
                DispatchInput<T, ExecT> const& in,
                ExpertsT const& experts,
                View<accumulator_t<T> const, 2, ExecT> addend,
                View<T, 2, ExecT> y) const
  {
    if (alone()) { return local_.evaluate(exec, in, experts, addend, y); }
    auto const trip = make_trip(exec, in);
    auto x          = transport_.make_arrived(exec, trip, in.x.extent(1), Leg::forward);
    auto home       = transport_.make_home(exec, trip, in.x.extent(1));
    auto const rows = transport_.rows_of(trip, x);
    detail::ExpertOutput<T, ExecT, decltype(experts.kernel)> to(
        exec, experts, trip.rows(), Pass::infer);
    auto const on = beside_communication(exec);
    detail::go_and_return(
        exec,
        communicator(),
        transport_,
        detail::RoundTrip{trip, in, in.x, x, to.out, home, Leg::forward, options_.chunks},
        [&](int c) {
          before_experts(on);
          detail::infer_experts(on, local_.schedule, experts, trip.groups(c), rows, to);
        });
    transport_.combine_home(exec, in, in.weight, home, addend, y);
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
    saved.trip       = {};  // so that what it holds is free for the next
    saved.trip       = make_trip(exec, in);
    auto const& trip = saved.trip;
    auto const sizes = experts.params.layout();
    if (saved.rows != trip.rows()) {
      saved.experts = experts.kernel.template make_saved<T>(exec, sizes, trip.rows());
      saved.rows    = trip.rows();
    }
    saved.x         = {};  // before there is the next
    saved.x         = transport_.make_arrived(exec, trip, sizes.hidden, Leg::forward);
    auto home       = transport_.make_home(exec, trip, sizes.hidden);
    auto const rows = transport_.rows_of(trip, saved.x);
    detail::ExpertOutput<T, ExecT, decltype(experts.kernel)> to(
        exec, experts, trip.rows(), Pass::forward);
    auto const on = beside_communication(exec);
    detail::go_and_return(
        exec,
        communicator(),
        transport_,
        detail::RoundTrip{trip, in, in.x, saved.x, to.out, home, Leg::forward, options_.chunks},
        [&](int c) {
          before_experts(on);
          detail::forward_experts(
              on, local_.schedule, experts, trip.groups(c), rows, saved.experts, to);
        });
    transport_.weights_to_experts(exec, communicator(), trip, in, saved.weight);
    transport_.combine_home(exec, in, in.weight, home, addend, y);
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
    auto const& trip = saved.trip;
    auto const x = transport_.rows_of(trip, saved.x), dy_rows = transport_.rows_of(trip, work.dy);
    auto const on = beside_communication(exec);
    work.worked   = detail::go_and_return(
        exec,
        communicator(),
        transport_,
        detail::RoundTrip{
            trip, in, dy, work.dy, work.local.dx_rows, work.dx, Leg::backward, options_.chunks},
        [&](int c) {
          before_experts(on);
          detail::backward_experts_data(on,
                                        local_.schedule,
                                        experts,
                                        saved.experts,
                                        trip.groups(c),
                                        x,
                                        dy_rows,
                                        saved.weight.const_view(),
                                        work.local);
        });
    transport_.weights_to_tokens(
        exec, communicator(), trip, in, work.local.d_weight_rows, d_weight);
  }

  template <class ExecT, class T, class WorkT>
  void combine_backward(ExecT const& exec,
                        DispatchInput<T, ExecT> const& in,
                        WorkT const& work,
                        View<accumulator_t<T> const, 2, ExecT> addend,
                        View<T, 2, ExecT> dx) const
  {
    if (alone()) { return local_.combine_backward(exec, in, work.local, addend, dx); }
    transport_.combine_home(exec, in, {}, work.dx, addend, dx);
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
    if (alone()) {
      return local_.backward_weights(
          exec, in, experts, saved.experts, dy, work.local, grads, result);
    }
    if (work.worked.empty()) {
      return weights_of(exec, experts, saved, saved.trip.groups(), work, grads, result);
    }
    auto const worked = std::move(work.worked);
    detail::when_worked(exec, worked, [&](ExecT const& lane, int c) {
      weights_of(
          beside_communication(lane), experts, saved, saved.trip.groups(c), work, grads, result);
    });
  }

 private:
  template <class, class, class, class, class>
  friend class AllToAllDispatcher;
  AllToAllDispatcher(CommT const& comm,
                     AllToAllOptions options,
                     Local const& local,
                     Transport const& transport)
      : comm_{comm}, options_{options}, local_{local}, transport_{transport}
  {
  }

  [[nodiscard]] bool alone() const { return communicator().size() == 1; }

  template <class ExecT, class ExpertsT, class SavedT, class WorkT, class GradsT>
  void weights_of(ExecT const& exec,
                  ExpertsT const& experts,
                  SavedT const& saved,
                  RowGroups<ExecT> const& groups,
                  WorkT& work,
                  GradsT const& grads,
                  Result result) const
  {
    before_experts(exec);
    detail::backward_experts_weights(exec,
                                     local_.schedule,
                                     experts,
                                     saved.experts,
                                     groups,
                                     transport_.rows_of(saved.trip, saved.x),
                                     transport_.rows_of(saved.trip, work.dy),
                                     saved.weight.const_view(),
                                     work.local,
                                     grads,
                                     result);
  }

  // Where the experts work.
  template <class ExecT>
  [[nodiscard]] ExecT beside_communication(ExecT const& exec) const
  {
    if constexpr (requires { exec.sparing(0); }) {
      if (options_.chunks > 1) { return exec.sparing(options_.spare_multiprocessors); }
    }
    return exec;
  }

  // A schedule that reads counts on the host does so after what ranks wait for one another in.
  template <class ExecT>
  void before_experts(ExecT const& exec) const
  {
    if constexpr (std::same_as<ScheduleT, SerialSchedule>) {
      if (exec.products() != Products::own) { detail::wait_for_ranks(exec, communicator()); }
    }
  }

  template <class ExecT, class T>
  [[nodiscard]] auto make_trip(ExecT const& exec, DispatchInput<T, ExecT> const& in) const
  {
    auto const phase = exec.phase(Phase::plan);
    return transport_.make_trip(exec, communicator(), in, options_.chunks);
  }

  detail::Held<CommT> comm_;
  AllToAllOptions options_;
  Local local_;
  Transport transport_;
};

}  // namespace moe
