#pragma once
// Contract: how rows get from tokens to experts that are at other ranks, and outputs home. An
// exchange that moves packed rows (exchange.hpp) is one through PackedTransport; what moves rows in
// another way is one itself.
#include <moe/dispatch/gathered_exchange.hpp>
#include <moe/dispatch/packed_transport.hpp>

namespace moe {

//   is_transport        true
//   pack_sends          where pack and pack_back are what moves rows to other ranks: true
//   Trip<T, ExecT>      worked out once per batch, forward, for all ways:
//     rows()                R, the bound that the host knows
//     groups(), groups(c)   rows by expert: all, and those of a chunk
//   Arrived<T, ExecT>   rows where their experts are
//   Home<T, ExecT>      outputs at their tokens
//   Buffers<T, ExecT>   of one pass
//   make_trip(exec, comm, in, chunks)           collective
//   make_home                                   (exec, trip, D)
//   make_arrived, make_buffers                  (exec, trip, D, leg)
//   rows_of(trip, arrived)                      rows by expert, by reference; before they arrive
// and for each chunk, on handles that may be lanes of one another,
//   pack(exec, trip, in, tokens, c, buffers)
//   send(exec, comm, trip, c, buffers, arrived)
//   pack_back(exec, trip, in, rows, c, leg, buffers)
//   send_back(exec, comm, trip, c, buffers, home)
// then
//   combine_home(exec, in, weight, home, addend, y)
//   weights_to_experts(exec, comm, trip, in, rows)                  one number for each choice,
//   weights_to_tokens(exec, comm, trip, in, rows, of_assignment)    exact
namespace detail {

template <class X>
concept IsTransport = X::is_transport;

template <class TransportT>
inline constexpr bool pack_sends = [] {
  if constexpr (requires { TransportT::pack_sends; }) { return TransportT::pack_sends; }
  return false;
}();

template <class ExchangeT, class RowsT, class WireT>
auto make_transport(ExchangeT const& exchange, RowsT const&, WireT const& wire)
{
  if constexpr (IsTransport<ExchangeT>) {
    static_assert(std::same_as<RowsT, EachChoice> && std::same_as<WireT, ElementWire>,
                  "moe::AllToAllDispatcher: OncePerRank and wires are for exchanges that move "
                  "packed rows");
    return exchange;
  } else {
    return PackedTransport<ExchangeT, RowsT, WireT>(exchange, wire);
  }
}

}  // namespace detail
}  // namespace moe
