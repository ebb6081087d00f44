#pragma once
// Rows are packed in the order in which they leave, on the wire (wire.hpp), exchanged, and read
// through an index where they arrive; outputs come back one for each choice, unsummed, into the
// slots of the plan.
#include <moe/dispatch/combine.hpp>
#include <moe/dispatch/dispatcher.hpp>
#include <moe/dispatch/overlap.hpp>
#include <moe/dispatch/packed_trip.hpp>
#include <moe/dispatch/permute.hpp>
#include <moe/dispatch/wire_rows.hpp>

namespace moe {

template <class ExchangeT, class RowsT, class WireT>
class PackedTransport {
  template <class T>
  static constexpr bool in_place = WireT::template in_place<T>;

 public:
  PackedTransport(ExchangeT exchange, WireT wire) : exchange_{exchange}, wire_{wire} {}

  template <class T, class ExecT>
  using Trip = detail::PackedTrip<T, ExecT, ExchangeT, RowsT>;
  template <class T, class ExecT>
  using Arrived = Tensor<T, 2, ExecT>;  // rows in the order in which they arrive
  template <class T, class ExecT>
  using Home = Tensor<T, 2, ExecT>;  // rows in slots, of which the kept choices have the first

  // Rows of one pass on the wire: before they leave and, where they are not used as they came, as
  // they arrive.
  template <class T, class ExecT>
  struct Buffers {
    Tensor<std::byte, 2, ExecT> out[detail::chunk_buffers], back[detail::chunk_buffers];
    Tensor<std::byte, 2, ExecT> arrived, home;
  };

  // Collective; waits for the device.
  template <class T, class ExecT, class CommT>
  [[nodiscard]] Trip<T, ExecT> make_trip(ExecT const& exec,
                                         CommT const& comm,
                                         DispatchInput<T, ExecT> const& in,
                                         int chunks) const
  {
    static_assert(Exchange<ExchangeT, CommT, std::byte, ExecT> &&
                      Exchange<ExchangeT, CommT, accumulator_t<T>, ExecT>,
                  "moe::AllToAllDispatcher: an exchange has Route, make_route, to_experts and "
                  "to_tokens for bytes and numbers in this space, see moe/dispatch/exchange.hpp");
    static_assert(WireFor<WireT, T>,
                  "moe::AllToAllDispatcher: a wire has row_bytes, encode and decode for this "
                  "element type, see moe/dispatch/wire.hpp");
    return Trip<T, ExecT>::made(exec, comm, in, exchange_, chunks);
  }
  template <class T, class ExecT>
  [[nodiscard]] Arrived<T, ExecT> make_arrived(ExecT const& exec,
                                               Trip<T, ExecT> const& trip,
                                               index_t width,
                                               Leg) const
  {
    return Arrived<T, ExecT>(exec, trip.rows_arriving(), width);
  }
  template <class T, class ExecT>
  [[nodiscard]] Home<T, ExecT> make_home(ExecT const& exec,
                                         Trip<T, ExecT> const& trip,
                                         index_t width) const
  {
    return Home<T, ExecT>(exec, trip.plan.blocks.rows_sent(), width);
  }
  template <class T, class ExecT>
  [[nodiscard]] Buffers<T, ExecT> make_buffers(ExecT const& exec,
                                               Trip<T, ExecT> const& trip,
                                               index_t width,
                                               Leg) const
  {
    index_t const bytes = wire_.template row_bytes<T>(width);
    Buffers<T, ExecT> b;
    for (int c = 0; c < trip.chunks(); ++c) {
      auto const i = static_cast<std::size_t>(c);
      grow(exec, b.out[c % detail::chunk_buffers], trip.token_chunks()[i].rows_sent(), bytes);
      grow(exec, b.back[c % detail::chunk_buffers], trip.plan.chunks[i].rows_received(), bytes);
    }
    if constexpr (!in_place<T>) {
      grow(exec, b.arrived, trip.rows_arriving(), bytes);
      grow(exec, b.home, trip.plan.blocks.rows_sent(), bytes);
    }
    return b;
  }

  // The rows of `arrived` by expert.
  template <class T, class ExecT>
  [[nodiscard]] IndexedRows<T, ExecT> rows_of(Trip<T, ExecT> const& trip,
                                              Arrived<T, ExecT> const& arrived) const
  {
    return {arrived.const_view(), trip.arrived_at()};
  }

  // Rows of `tokens` (T, D) for the experts of chunk c.
  template <class T, class ExecT>
  void pack(ExecT const& exec,
            Trip<T, ExecT> const& trip,
            DispatchInput<T, ExecT> const& in,
            View<T const, 2, ExecT> tokens,
            int c,
            Buffers<T, ExecT>& buffers) const
  {
    auto const& blocks = trip.token_chunks()[static_cast<std::size_t>(c)];
    auto const at      = trip.token_at(in);
    auto& to           = buffers.out[c % detail::chunk_buffers];
    detail::for_each_run(
        blocks.sent, blocks.sent_at, [&](index_t from, index_t packed, index_t rows) {
          encode_rows(exec,
                      wire_,
                      IndexedRows<T, ExecT>{tokens, detail::part(at, from, rows)},
                      rows,
                      detail::rows_from(to, packed, rows));
        });
  }
  template <class T, class ExecT, class CommT>
  void send(ExecT const& exec,
            CommT const& comm,
            Trip<T, ExecT> const& trip,
            int c,
            Buffers<T, ExecT>& buffers,
            Arrived<T, ExecT>& arrived) const
  {
    auto const i       = static_cast<std::size_t>(c);
    auto const& blocks = trip.token_chunks()[i];
    auto const& from   = buffers.out[c % detail::chunk_buffers];
    auto const bytes   = on_wire(arrived, buffers.arrived);
    exchange_.to_experts(exec,
                         comm,
                         blocks.with_packed_sent(),
                         trip.token_route_of(i),
                         bytes.extent(1),
                         detail::flat(from.const_view()),
                         detail::flat(bytes));
    decode(exec, blocks.received, blocks.received_at, bytes, arrived);
  }

  // Rows of experts (R, D) of chunk c, back to the slots of their choices.
  template <class T, class ExecT>
  void pack_back(ExecT const& exec,
                 Trip<T, ExecT> const& trip,
                 DispatchInput<T, ExecT> const&,
                 Tensor<T, 2, ExecT> const& rows_of_experts,
                 int c,
                 Leg,
                 Buffers<T, ExecT>& buffers) const
  {
    auto const& blocks = trip.plan.chunks[static_cast<std::size_t>(c)];
    auto& to           = buffers.back[c % detail::chunk_buffers];
    detail::for_each_run(
        blocks.received, blocks.received_at, [&](index_t from, index_t packed, index_t rows) {
          encode_rows(
              exec,
              wire_,
              IndexedRows<T, ExecT>{rows_of_experts.const_view(),
                                    detail::part(trip.plan.row_of.const_view(), from, rows)},
              rows,
              detail::rows_from(to, packed, rows));
        });
  }
  template <class T, class ExecT, class CommT>
  void send_back(ExecT const& exec,
                 CommT const& comm,
                 Trip<T, ExecT> const& trip,
                 int c,
                 Buffers<T, ExecT>& buffers,
                 Home<T, ExecT>& home) const
  {
    auto const i       = static_cast<std::size_t>(c);
    auto const& blocks = trip.plan.chunks[i];
    auto const& from   = buffers.back[c % detail::chunk_buffers];
    auto const bytes   = on_wire(home, buffers.home);
    exchange_.to_tokens(exec,
                        comm,
                        blocks.with_packed_received(),
                        trip.route_of(i),
                        bytes.extent(1),
                        detail::flat(from.const_view()),
                        detail::flat(bytes));
    decode(exec, blocks.sent, blocks.sent_at, bytes, home);
  }

  // y(t) = addend(t) + sum of the rows of t's choices, times their weights where there are some
  template <class T, class ExecT>
  void combine_home(ExecT const& exec,
                    DispatchInput<T, ExecT> const& in,
                    View<accumulator_t<T> const, 1, ExecT> weight,
                    Home<T, ExecT> const& home,
                    View<accumulator_t<T> const, 2, ExecT> addend,
                    View<T, 2, ExecT> y) const
  {
    combine(exec, in.assignments, in.plan, weight, home.const_view(), addend, y);
  }

  // One number of each choice: weights (A) -> (R), their gradients (R) -> (A). Never rounded.
  template <class T, class ExecT, class CommT>
  void weights_to_experts(ExecT const& exec,
                          CommT const& comm,
                          Trip<T, ExecT> const& trip,
                          DispatchInput<T, ExecT> const& in,
                          Tensor<accumulator_t<T>, 1, ExecT>& rows) const
  {
    using S          = accumulator_t<T>;
    auto const& plan = trip.plan;
    Tensor<S, 1, ExecT> send(exec, in.plan.rows()), receive(exec, plan.rows);
    detail::make_numbers(exec, plan.rows, rows);
    to_slots(exec, in.plan, in.weight, send.view());
    exchange_.to_experts(exec, comm, plan.blocks, trip.route, 1, send.const_view(), receive.view());
    gather_numbers(exec, receive.const_view(), plan.arrived_at.const_view(), rows.view());
  }
  template <class T, class ExecT, class CommT>
  void weights_to_tokens(ExecT const& exec,
                         CommT const& comm,
                         Trip<T, ExecT> const& trip,
                         DispatchInput<T, ExecT> const& in,
                         Tensor<accumulator_t<T>, 1, ExecT> const& rows,
                         View<accumulator_t<T>, 1, ExecT> of_assignment) const
  {
    using S          = accumulator_t<T>;
    auto const& plan = trip.plan;
    Tensor<S, 1, ExecT> send(exec, plan.rows), slots(exec, in.plan.rows());
    gather_numbers(exec, rows.const_view(), plan.row_of.const_view(), send.view());
    exchange_.to_tokens(exec, comm, plan.blocks, trip.route, 1, send.const_view(), slots.view());
    from_slots(exec, in.plan, slots.const_view(), of_assignment);
  }

 private:
  template <class ExecT>
  static void grow(ExecT const& exec,
                   Tensor<std::byte, 2, ExecT>& buffer,
                   index_t rows,
                   index_t bytes)
  {
    if (rows > buffer.extent(0)) { buffer = Tensor<std::byte, 2, ExecT>(exec, rows, bytes); }
  }
  // Where rows of T come in: where they will be, or in a buffer on the wire.
  template <class T, class ExecT>
  [[nodiscard]] View<std::byte, 2, ExecT> on_wire(Tensor<T, 2, ExecT>& rows,
                                                  Tensor<std::byte, 2, ExecT>& buffer) const
  {
    if constexpr (in_place<T>) {
      return View<std::byte, 2, ExecT>(reinterpret_cast<std::byte*>(rows.view().data_handle()),
                                       rows.extent(0),
                                       rows.extent(1) * index_t{sizeof(T)});
    } else {
      return View<std::byte, 2, ExecT>(buffer.view().data_handle(),
                                       buffer.extent(0),
                                       wire_.template row_bytes<T>(rows.extent(1)));
    }
  }
  template <class T, class ExecT>
  void decode(ExecT const& exec,
              std::vector<index_t> const& counts,
              std::vector<index_t> const& offsets,
              View<std::byte, 2, ExecT> bytes,
              Tensor<T, 2, ExecT>& rows) const
  {
    if constexpr (!in_place<T>) {
      detail::for_each_run(counts, offsets, [&](index_t from, index_t, index_t n) {
        decode_rows(exec,
                    wire_,
                    View<std::byte const, 2, ExecT>(
                        bytes.data_handle() + from * bytes.extent(1), n, bytes.extent(1)),
                    detail::rows_from(rows, from, n));
      });
    }
  }

  ExchangeT exchange_;
  WireT wire_;
};

}  // namespace moe
