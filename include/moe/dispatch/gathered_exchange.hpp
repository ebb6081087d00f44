#pragma once
// Every rank gets all tokens and gives its experts' part of every output; a reduce-scatter adds the
// parts up (Megatron-LM's allgather dispatcher). Two collectives of fixed sizes instead of many
// messages, which pays where a token goes to most ranks, K >= P; what travels does not depend on
// the routing.
#include <moe/dispatch/gathered_rows.hpp>
#include <moe/dispatch/packed_transport.hpp>

namespace moe {

// A token's rows are added up at the experts' ranks, then over the ranks: y and dx depend on the
// number of ranks in their last bits. Experts' gradients and those of the weights do not.
class AllGatherExchange {
 public:
  static constexpr bool is_transport = true;

  template <class T, class ExecT>
  struct Trip {
    using S = accumulator_t<T>;

    index_t tokens = 0, assignments = 0;  // of the rank that has most
    Tensor<Id, 1, ExecT> range;           // (P * tokens, 2) assignments of each token
    Tensor<S, 1, ExecT> weight;           // (P * assignments)
    Tensor<Id, 1, ExecT> row_of;          // (P * assignments) row here, or -1
    Tensor<Id, 1, ExecT> offsets;         // (L + 1)
    Tensor<Id, 1, ExecT> assignment_at;   // (P * assignments), of which R are rows
    Tensor<Id, 1, ExecT> token_at;        // (R)

    [[nodiscard]] index_t rows() const { return token_at.extent(0); }
    [[nodiscard]] RowGroups<ExecT> groups() const
    {
      return {offsets.const_view(), {}, rows(), 0, static_cast<Id>(offsets.extent(0) - 1)};
    }
    [[nodiscard]] RowGroups<ExecT> groups(int) const { return groups(); }
  };
  template <class T, class ExecT>
  using Arrived = Tensor<T, 2, ExecT>;  // (P * most T, D)
  template <class T, class ExecT>
  using Home = Tensor<accumulator_t<T>, 2, ExecT>;  // (most T, D) sums
  template <class T, class ExecT>
  struct Buffers {
    Tensor<T, 2, ExecT> tokens;                  // (most T, D)
    Tensor<accumulator_t<T>, 2, ExecT> partial;  // (P * most T, D)
  };

  // Collective; waits for the device.
  template <class T, class ExecT, class CommT>
  [[nodiscard]] Trip<T, ExecT> make_trip(ExecT const& exec,
                                         CommT const& comm,
                                         DispatchInput<T, ExecT> const& in,
                                         int chunks) const
  {
    static_assert(HasAllGather<CommT, ExecT, T> && HasReduceScatter<CommT, ExecT, accumulator_t<T>>,
                  "moe::AllGatherExchange: a communicator with all_gather and reduce_scatter_sum");
    using S = accumulator_t<T>;
    Check const check{"moe::AllGatherExchange", comm.rank()};
    check.equal("chunks", chunks, "what sums that go home at once allow", 1);
    index_t const P = comm.size();
    auto const mine = experts_of_rank(in.plan.kept_per_expert.extent(0), comm.size(), comm.rank());

    Trip<T, ExecT> trip;
    most(exec, comm, in, trip);
    index_t const tokens = trip.tokens, A = trip.assignments, all = P * A;
    Tensor<Id, 1, ExecT> expert(exec, A), range(exec, 2 * tokens), expert_of_all(exec, all);
    Tensor<S, 1, ExecT> weight(exec, A);
    exec.for_each_row(std::max(tokens, A),
                      detail::DescribeBatchRow<S, ExecT>{in.assignments,
                                                         in.plan.slot_of.const_view(),
                                                         in.plan.expert_offsets.const_view(),
                                                         in.weight,
                                                         expert.view(),
                                                         weight.view(),
                                                         range.view()});
    trip.range  = Tensor<Id, 1, ExecT>(exec, P * 2 * tokens);
    trip.weight = Tensor<S, 1, ExecT>(exec, all);
    comm.all_gather(exec, expert.const_view(), expert_of_all.view());
    comm.all_gather(exec, weight.const_view(), trip.weight.view());
    comm.all_gather(exec, range.const_view(), trip.range.view());

    Tensor<std::uint32_t, 1, ExecT> key(exec, all), key_sorted(exec, all);
    Tensor<Id, 1, ExecT> place(exec, all), token_of(exec, all);
    trip.row_of        = Tensor<Id, 1, ExecT>(exec, all);
    trip.offsets       = Tensor<Id, 1, ExecT>(exec, mine.count + 1);
    trip.assignment_at = Tensor<Id, 1, ExecT>(exec, all);
    exec.for_each_row(all,
                      detail::MineRow<ExecT>{mine.first,
                                             mine.count,
                                             expert_of_all.const_view(),
                                             key.view(),
                                             place.view(),
                                             trip.row_of.view()});
    sort_pairs(exec,
               detail::bits_for(mine.count),
               key.view(),
               place.view(),
               key_sorted.view(),
               trip.assignment_at.view());
    exec.for_each_row(mine.count + 1,
                      detail::OffsetsRow<ExecT>{key_sorted.const_view(), trip.offsets.view()});
    Id rows = 0;
    detail::wait_for_ranks(exec, comm);
    exec.copy_to_host(&rows, trip.offsets.const_view().data_handle() + mine.count, sizeof rows);
    // A space that computes nothing is told (MemoryMeter).
    if constexpr (requires { exec.planned_rows(); }) { rows = exec.planned_rows(); }
    trip.token_at = Tensor<Id, 1, ExecT>(exec, rows);
    exec.for_each_row(
        P * tokens,
        detail::TokenOfAssignmentRow<ExecT>{tokens, A, trip.range.const_view(), token_of.view()});
    exec.for_each_row(rows,
                      detail::GatheredRow<ExecT>{trip.assignment_at.const_view(),
                                                 token_of.const_view(),
                                                 trip.token_at.view(),
                                                 trip.row_of.view()});
    return trip;
  }
  template <class T, class ExecT>
  [[nodiscard]] Arrived<T, ExecT> make_arrived(ExecT const& exec,
                                               Trip<T, ExecT> const& trip,
                                               index_t width,
                                               Leg) const
  {
    return Arrived<T, ExecT>(exec, ranks(trip) * trip.tokens, width);
  }
  template <class T, class ExecT>
  [[nodiscard]] Home<T, ExecT> make_home(ExecT const& exec,
                                         Trip<T, ExecT> const& trip,
                                         index_t width) const
  {
    return Home<T, ExecT>(exec, trip.tokens, width);
  }
  template <class T, class ExecT>
  [[nodiscard]] Buffers<T, ExecT> make_buffers(ExecT const& exec,
                                               Trip<T, ExecT> const& trip,
                                               index_t width,
                                               Leg) const
  {
    return {Tensor<T, 2, ExecT>(exec, trip.tokens, width),
            Home<T, ExecT>(exec, ranks(trip) * trip.tokens, width)};
  }
  template <class T, class ExecT>
  [[nodiscard]] IndexedRows<T, ExecT> rows_of(Trip<T, ExecT> const& trip,
                                              Arrived<T, ExecT> const& arrived) const
  {
    return {arrived.const_view(), trip.token_at.const_view()};
  }

  template <class T, class ExecT>
  void pack(ExecT const& exec,
            Trip<T, ExecT> const&,
            DispatchInput<T, ExecT> const&,
            View<T const, 2, ExecT> tokens,
            int,
            Buffers<T, ExecT>& buffers) const
  {
    auto const bytes = static_cast<std::size_t>(tokens.size()) * sizeof(T);
    auto* const to   = buffers.tokens.view().data_handle();
    exec.copy(to, tokens.data_handle(), bytes);
    exec.zero(to + tokens.size(), buffers.tokens.bytes() - bytes);
  }
  template <class T, class ExecT, class CommT>
  void send(ExecT const& exec,
            CommT const& comm,
            Trip<T, ExecT> const&,
            int,
            Buffers<T, ExecT> const& buffers,
            Arrived<T, ExecT>& arrived) const
  {
    comm.all_gather(exec, detail::flat(buffers.tokens.const_view()), detail::flat(arrived.view()));
  }
  template <class T, class ExecT>
  void pack_back(ExecT const& exec,
                 Trip<T, ExecT> const& trip,
                 DispatchInput<T, ExecT> const&,
                 Tensor<T, 2, ExecT> const& rows_of_experts,
                 int,
                 Leg leg,
                 Buffers<T, ExecT>& buffers) const
  {
    using S = accumulator_t<T>;
    exec.for_each_row(
        buffers.partial.extent(0),
        detail::PartialSumRow<T, ExecT>{
            trip.tokens,
            trip.assignments,
            trip.range.const_view(),
            trip.row_of.const_view(),
            leg == Leg::forward ? trip.weight.const_view() : View<S const, 1, ExecT>{},
            rows_of_experts.const_view(),
            buffers.partial.view()});
  }
  template <class T, class ExecT, class CommT>
  void send_back(ExecT const& exec,
                 CommT const& comm,
                 Trip<T, ExecT> const&,
                 int,
                 Buffers<T, ExecT> const& buffers,
                 Home<T, ExecT>& home) const
  {
    comm.reduce_scatter_sum(
        exec, detail::flat(buffers.partial.const_view()), detail::flat(home.view()));
  }
  // The sums have their weights already.
  template <class T, class ExecT>
  void combine_home(ExecT const& exec,
                    DispatchInput<T, ExecT> const&,
                    View<accumulator_t<T> const, 1, ExecT>,
                    Tensor<accumulator_t<T>, 2, ExecT> const& home,
                    View<accumulator_t<T> const, 2, ExecT> addend,
                    View<T, 2, ExecT> y) const
  {
    auto const phase = exec.phase(Phase::combine);
    exec.for_each_row(y.extent(0), detail::AddSumRow<T, ExecT>{home.const_view(), addend, y});
  }

  template <class T, class ExecT, class CommT>
  void weights_to_experts(ExecT const& exec,
                          CommT const&,
                          Trip<T, ExecT> const& trip,
                          DispatchInput<T, ExecT> const&,
                          Tensor<accumulator_t<T>, 1, ExecT>& rows) const
  {
    detail::make_numbers(exec, trip.rows(), rows);
    gather_numbers(exec, trip.weight.const_view(), rows_at(trip), rows.view());
  }
  // One rank has a number for each choice, the others add zeros.
  template <class T, class ExecT, class CommT>
  void weights_to_tokens(ExecT const& exec,
                         CommT const& comm,
                         Trip<T, ExecT> const& trip,
                         DispatchInput<T, ExecT> const& in,
                         Tensor<accumulator_t<T>, 1, ExecT> const& rows,
                         View<accumulator_t<T>, 1, ExecT> of_assignment) const
  {
    using S = accumulator_t<T>;
    Tensor<S, 1, ExecT> of_all(exec, trip.weight.extent(0)), of_this(exec, trip.assignments);
    exec.zero(of_all.view().data_handle(), of_all.bytes());
    exec.for_each_row(
        trip.rows(),
        detail::ScatterNumberRow<S, ExecT>{rows.const_view(), rows_at(trip), of_all.view()});
    comm.reduce_scatter_sum(exec, of_all.const_view(), of_this.view());
    exec.copy(of_assignment.data_handle(),
              of_this.const_view().data_handle(),
              static_cast<std::size_t>(in.assignments.count) * sizeof(S));
  }

 private:
  template <class TripT>
  static index_t ranks(TripT const& trip)
  {
    return trip.tokens == 0 ? 0 : trip.range.extent(0) / (2 * trip.tokens);
  }
  template <class T, class ExecT>
  static View<Id const, 1, ExecT> rows_at(Trip<T, ExecT> const& trip)
  {
    return detail::part(trip.assignment_at.const_view(), 0, trip.rows());
  }
  // Collectives have one size: that of the rank with the most tokens, and with the most choices.
  template <class T, class ExecT, class CommT>
  static void most(ExecT const& exec,
                   CommT const& comm,
                   DispatchInput<T, ExecT> const& in,
                   Trip<T, ExecT>& trip)
  {
    auto const P         = static_cast<std::size_t>(comm.size());
    index_t const own[2] = {in.assignments.tokens, in.assignments.count};
    std::vector<index_t> of_all(2 * P);
    Tensor<index_t, 1, ExecT> send(exec, 2), receive(exec, 2 * comm.size());
    exec.copy_from_host(send.view().data_handle(), own, sizeof own);
    comm.all_gather(exec, send.const_view(), receive.view());
    detail::wait_for_ranks(exec, comm);
    exec.copy_to_host(
        of_all.data(), receive.const_view().data_handle(), of_all.size() * sizeof(index_t));
    for (std::size_t r = 0; r < P; ++r) {
      trip.tokens      = std::max(trip.tokens, of_all[2 * r]);
      trip.assignments = std::max(trip.assignments, of_all[2 * r + 1]);
    }
    Check const check{"moe::AllGatherExchange", comm.rank()};
    check.at_most(
        "ranks x most assignments",
        checked_mul(check.operation, "ranks x assignments", comm.size(), trip.assignments),
        "the largest 32-bit id",
        std::numeric_limits<Id>::max());
  }
};

}  // namespace moe
