#pragma once
// Rows are stored straight into memory of the ranks that they go to (comm/window.hpp), and so is
// how many: the host knows bounds alone and waits for nothing, so a pass can be captured into a
// graph. A row of x, or of dy, travels once for each (token, rank) without being packed; outputs
// come home one for each choice, so the bits are those of one rank.
#include <algorithm>

#include <moe/dispatch/combine.hpp>
#include <moe/dispatch/one_sided_rows.hpp>
#include <moe/dispatch/one_sided_sent.hpp>
#include <moe/dispatch/one_sided_slots.hpp>
#include <moe/dispatch/packed_trip.hpp>

namespace moe {

// The same on all ranks.
struct OneSidedOptions {
  index_t tokens  = 0;     // most T that any rank brings to a call
  index_t choices = 0;     // most A: K of them for each token, as a rule
  WindowOptions window{};  // but for the channels
  // In several chunks, GPU multiprocessors that store rows beside the experts' work, to which the
  // dispatcher's spare_multiprocessors leaves as many. 0: all.
  int multiprocessors = 16;
};

// A handle of one rank's: copies share its windows. A saved state has one from its forward until it
// goes, an evaluation for as long as it runs; they are used again, and made, collectively, where
// none is free: not within a capture, so run each kind of pass once before. So ranks make states,
// let them go and call in the same order; and passes that use one exchange are ordered by streams
// or events. Windows stay those of the communicator that they were made with: a fresh world takes a
// fresh exchange.
//
// A rank has room for all choices of all ranks, R = P * choices: for those that do not come, memory
// and some empty work. Memory grows with P * tokens * D for each window.
template <class ExecT>
class OneSidedExchange {
  using Slot    = detail::OneSidedSlot<ExecT>;
  using Channel = detail::OneSidedChannel;

 public:
  static constexpr bool is_transport = true;

  explicit OneSidedExchange(OneSidedOptions const& options) : options_{options}
  {
    Check const check{"moe::OneSidedExchange"};
    check.at_least("tokens", options.tokens, 0);
    check.at_least("choices", options.choices, 0);
    check.at_least("multiprocessors", options.multiprocessors, 0);
    options_.window.channels = Channel::count;
  }

  // How many there are by now.
  [[nodiscard]] int windows() const { return static_cast<int>(slots_.size()); }

  template <class T, class SpaceT>
  using Trip = detail::OneSidedTrip<T, ExecT, SpaceT>;
  // Places in the trip's window.
  template <class T, class SpaceT>
  struct Arrived {
    Leg leg = Leg::forward;
  };
  template <class T, class SpaceT>
  struct Home {
    View<T const, 2, ExecT> rows;  // (most A, D) in slots
  };
  template <class T, class SpaceT>
  struct Buffers {
    Leg leg = Leg::forward;
  };

  // Collective.
  template <class T, class CommT>
  [[nodiscard]] Trip<T, ExecT> make_trip(ExecT const& exec,
                                         CommT const& comm,
                                         DispatchInput<T, ExecT> const& in,
                                         int chunks) const
  {
    static_assert(HasWindow<CommT, ExecT>, "moe::OneSidedExchange: a communicator with window");
    using S = accumulator_t<T>;
    Check const check{"moe::OneSidedExchange", comm.rank()};
    index_t const A = in.assignments.count, E = in.plan.kept_per_expert.extent(0);
    index_t const P = comm.size(), C = chunks;
    check.at_most("tokens", in.assignments.tokens, "the exchange's", options_.tokens);
    check.at_most("choices", A, "the exchange's", options_.choices);
    detail::OneSidedLayout const layout(
        P, options_.tokens, options_.choices, E, in.x.extent(1), sizeof(T), sizeof(S));
    Trip<T, ExecT> const trip{slots_.take(exec, comm, check, layout, options_.window), C, A};
    Slot& slot = *trip.slot;

    exec.for_each_row(detail::rows_of_numbers(A),
                      detail::PartOfChoiceRow<ExecT>{in.plan.slot_of.const_view(),
                                                     in.plan.expert_offsets.const_view(),
                                                     P,
                                                     C,
                                                     slot.part_of.view()});
    auto const phase = exec.phase(Phase::communication);
    // What is stored next overwrites what every rank has read by then.
    for_each_row_and_wait(
        exec,
        in.assignments.tokens,
        detail::RowGoesRow<ExecT>{
            in.assignments, P * C, C, slot.part_of.const_view(), slot.goes_to.view()},
        slot.window,
        Channel::ready);
    exec.for_each_row(detail::rows_of_numbers(std::max(A, E)),
                      detail::StoreHeaderRow<S, ExecT>{slot.memory(),
                                                       in.assignments,
                                                       in.plan.slot_of.const_view(),
                                                       in.plan.kept_per_expert.const_view(),
                                                       in.plan.expert_offsets.const_view(),
                                                       in.weight});
    return trip;
  }
  template <class T>
  [[nodiscard]] Arrived<T, ExecT> make_arrived(ExecT const&,
                                               Trip<T, ExecT> const&,
                                               index_t,
                                               Leg leg) const
  {
    return {leg};
  }
  template <class T>
  [[nodiscard]] Home<T, ExecT> make_home(ExecT const&, Trip<T, ExecT> const& trip, index_t) const
  {
    auto const memory = trip.slot->memory();
    return {View<T const, 2, ExecT>(
        reinterpret_cast<T const*>(trip.slot->window.local() + memory.at.home),
        memory.at.choices,
        memory.at.width)};
  }
  // Before backward's rows are stored, all ranks have read those of a backward before.
  template <class T>
  [[nodiscard]] Buffers<T, ExecT> make_buffers(ExecT const& exec,
                                               Trip<T, ExecT> const& trip,
                                               index_t,
                                               Leg leg) const
  {
    if (leg == Leg::backward) {
      auto const phase = exec.phase(Phase::communication);
      trip.slot->window.signal_and_wait(exec, Channel::ready);
    }
    return {leg};
  }
  template <class T>
  [[nodiscard]] IndexedRows<T, ExecT> rows_of(Trip<T, ExecT> const& trip,
                                              Arrived<T, ExecT> const& arrived) const
  {
    auto const& at = trip.slot->layout;
    return {View<T const, 2, ExecT>(
                reinterpret_cast<T const*>(trip.slot->window.local() + region(at, arrived.leg)),
                at.ranks * at.tokens,
                at.width),
            trip.slot->arrived_at.const_view()};
  }

  template <class T>
  void pack(ExecT const& exec,
            Trip<T, ExecT> const& trip,
            DispatchInput<T, ExecT> const& in,
            View<T const, 2, ExecT> tokens,
            int c,
            Buffers<T, ExecT> const& buffers) const
  {
    auto const phase  = exec.phase(Phase::communication);
    auto const memory = trip.slot->memory();
    store_rows(detail::storing(exec, trip.chunks, options_.multiprocessors),
               detail::StoreTokenRow<T, ExecT>{memory,
                                               region(memory.at, buffers.leg),
                                               in.assignments,
                                               trip.slot->goes_to.const_view(),
                                               trip.chunks,
                                               c,
                                               tokens},
               trip.slot->window,
               Channel::rows_came + c % detail::chunk_buffers,
               trip.waits_with_stores());
  }
  // With the first rows of a batch comes what is said of all of them.
  template <class T, class CommT>
  void send(ExecT const& exec,
            CommT const&,
            Trip<T, ExecT> const& trip,
            int c,
            Buffers<T, ExecT> const& buffers,
            Arrived<T, ExecT> const&) const
  {
    Slot& slot = *trip.slot;
    if (!trip.waits_with_stores()) {
      auto const phase = exec.phase(Phase::communication);
      slot.window.wait(exec, Channel::rows_came + c % detail::chunk_buffers);
    }
    if (c > 0 || buffers.leg == Leg::backward) { return; }
    auto const phase = exec.phase(Phase::dispatch);
    exec.for_each_row(slot.layout.ranks,
                      detail::CountRow<ExecT>{
                          slot.memory(), slot.experts(), slot.count.view(), slot.first.view()});
    index_t const teams = detail::arrival_teams(trip.rows(), slot.count.extent(0));
    exec.for_each_row(slot.count.extent(0) * teams,
                      detail::OneSidedArrivalRow<ExecT>{slot.memory(),
                                                        slot.experts(),
                                                        teams,
                                                        slot.count.const_view(),
                                                        slot.first.const_view(),
                                                        slot.offsets.view(),
                                                        slot.arrived_at.view(),
                                                        slot.home_at.view()});
  }
  template <class T>
  void pack_back(ExecT const& exec,
                 Trip<T, ExecT> const& trip,
                 DispatchInput<T, ExecT> const&,
                 Tensor<T, 2, ExecT> const& rows_of_experts,
                 int c,
                 Leg,
                 Buffers<T, ExecT> const&) const
  {
    auto const phase  = exec.phase(Phase::communication);
    Slot const& slot  = *trip.slot;
    auto const groups = trip.groups(c);
    store_rows(detail::storing(exec, trip.chunks, options_.multiprocessors),
               detail::StoreHomeRow<T, ExecT>{slot.memory(),
                                              slot.offsets.const_view(),
                                              slot.home_at.const_view(),
                                              groups.first,
                                              groups.last,
                                              std::min(trip.rows(), detail::teams_over_rows),
                                              rows_of_experts.const_view()},
               slot.window,
               Channel::rows_home + c % detail::chunk_buffers,
               trip.waits_with_stores());
  }
  template <class T, class CommT>
  void send_back(ExecT const& exec,
                 CommT const&,
                 Trip<T, ExecT> const& trip,
                 int c,
                 Buffers<T, ExecT> const&,
                 Home<T, ExecT> const&) const
  {
    if (!trip.waits_with_stores()) {
      auto const phase = exec.phase(Phase::communication);
      trip.slot->window.wait(exec, Channel::rows_home + c % detail::chunk_buffers);
    }
    if (c == trip.chunks - 1) {
      detail::count_sent(exec, *trip.slot, trip.choices, trip.chunks, sizeof(T));
    }
  }
  template <class T>
  void combine_home(ExecT const& exec,
                    DispatchInput<T, ExecT> const& in,
                    View<accumulator_t<T> const, 1, ExecT> weight,
                    Home<T, ExecT> const& home,
                    View<accumulator_t<T> const, 2, ExecT> addend,
                    View<T, 2, ExecT> y) const
  {
    combine(exec, in.assignments, in.plan, weight, home.rows, addend, y);
  }

  // The weights came with the rows.
  template <class T, class CommT>
  void weights_to_experts(ExecT const& exec,
                          CommT const&,
                          Trip<T, ExecT> const& trip,
                          DispatchInput<T, ExecT> const&,
                          Tensor<accumulator_t<T>, 1, ExecT>& rows) const
  {
    using S          = accumulator_t<T>;
    Slot const& slot = *trip.slot;
    detail::make_numbers(exec, trip.rows(), rows);
    exec.for_each_row(
        detail::rows_of_numbers(trip.rows()),
        detail::WeightOfRowRow<S, ExecT>{
            slot.memory(), slot.offsets.const_view(), slot.home_at.const_view(), rows.view()});
  }
  template <class T, class CommT>
  void weights_to_tokens(ExecT const& exec,
                         CommT const&,
                         Trip<T, ExecT> const& trip,
                         DispatchInput<T, ExecT> const& in,
                         Tensor<accumulator_t<T>, 1, ExecT> const& rows,
                         View<accumulator_t<T>, 1, ExecT> of_assignment) const
  {
    using S          = accumulator_t<T>;
    Slot const& slot = *trip.slot;
    {
      auto const phase = exec.phase(Phase::communication);
      for_each_row_and_wait(exec,
                            detail::rows_of_numbers(trip.rows()),
                            detail::StoreNumberHomeRow<S, ExecT>{slot.memory(),
                                                                 slot.offsets.const_view(),
                                                                 slot.home_at.const_view(),
                                                                 rows.const_view()},
                            slot.window,
                            Channel::weights_home);
    }
    auto const& at = slot.layout;
    from_slots(exec,
               in.plan,
               View<S const, 1, ExecT>(reinterpret_cast<S const*>(slot.window.local() + at.d_home),
                                       at.choices),
               of_assignment);
  }

 private:
  static std::size_t region(detail::OneSidedLayout const& at, Leg leg)
  {
    return leg == Leg::forward ? at.x : at.dy;
  }

  OneSidedOptions options_;
  detail::OneSidedSlots<ExecT> slots_;
};

}  // namespace moe
