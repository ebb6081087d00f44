#pragma once
// Packing rows onto a wire and unpacking them.
#include <moe/core/error.hpp>
#include <moe/dispatch/travel_rows.hpp>
#include <moe/dispatch/wire.hpp>

namespace moe {
namespace detail {

template <class WireT, class T, class ExecT>
struct EncodeRow {
  WireT wire;
  IndexedRows<T, ExecT> from;    // (N, D)
  View<std::byte, 2, ExecT> to;  // (N, row_bytes)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    T const* const source   = from.row(r);
    std::byte* const target = to.data_handle() + r * to.extent(1);
    if (source == nullptr) { return zero_bytes(team, target, 0, to.extent(1)); }
    wire.encode(team, source, from.columns(), target);
  }
};

template <class WireT, class T, class ExecT>
struct DecodeRow {
  WireT wire;
  View<std::byte const, 2, ExecT> from;  // (N, row_bytes)
  View<T, 2, ExecT> to;                  // (N, D)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    wire.decode(team,
                from.data_handle() + r * from.extent(1),
                to.extent(1),
                to.data_handle() + r * to.extent(1));
  }
};

// A space may have overloads for wires it knows (dispatch/cuda/wire.cuh), found by the functor.
template <class ExecT, class WireT, class T>
void encode_each_row(ExecT const& exec, index_t rows, EncodeRow<WireT, T, ExecT> const& row)
{
  exec.for_each_row(rows, row);
}
template <class ExecT, class WireT, class T>
void decode_each_row(ExecT const& exec, index_t rows, DecodeRow<WireT, T, ExecT> const& row)
{
  exec.for_each_row(rows, row);
}

}  // namespace detail

// Rows that a wire leaves as they are: (N, row_bytes) as (N, D)
template <class T, class ByteT, class ExecT>
[[nodiscard]] View<T, 2, ExecT> rows_in_place(View<ByteT, 2, ExecT> bytes)
{
  return View<T, 2, ExecT>(reinterpret_cast<T*>(bytes.data_handle()),
                           bytes.extent(0),
                           bytes.extent(1) / index_t{sizeof(T)});
}

// to(r) = from.row(r) on the wire, r < rows: the gather and the rounding in one pass
template <class ExecT, class T, WireFor<T> WireT>
void encode_rows(ExecT const& exec,
                 WireT const& wire,
                 IndexedRows<T, ExecT> const& from,
                 index_t rows,
                 View<std::byte, 2, ExecT> to)
{
  Check{"moe::encode_rows"}.equal("columns of to",
                                  to.extent(1),
                                  "the wire's row_bytes",
                                  wire.template row_bytes<T>(from.columns()));
  Check{"moe::encode_rows"}.at_most("rows", rows, "rows of to", to.extent(0));
  if constexpr (WireT::template in_place<T>) {
    gather_rows(exec, from, rows, rows_in_place<T>(to));
  } else {
    encode_each_row(exec, rows, detail::EncodeRow<WireT, T, ExecT>{wire, from, to});
  }
}

// to(r) = the row that arrived as from(r), for every row of `to`
template <class ExecT, class T, WireFor<T> WireT>
void decode_rows(ExecT const& exec,
                 WireT const& wire,
                 std::type_identity_t<View<std::byte const, 2, ExecT>> from,
                 View<T, 2, ExecT> to)
{
  Check{"moe::decode_rows"}.equal("columns of from",
                                  from.extent(1),
                                  "the wire's row_bytes",
                                  wire.template row_bytes<T>(to.extent(1)));
  Check{"moe::decode_rows"}.at_most("rows of to", to.extent(0), "rows of from", from.extent(0));
  if constexpr (WireT::template in_place<T>) {
    gather_rows(exec, IndexedRows<T, ExecT>{rows_in_place<T const>(from), {}}, to.extent(0), to);
  } else {
    decode_each_row(exec, to.extent(0), detail::DecodeRow<WireT, T, ExecT>{wire, from, to});
  }
}

}  // namespace moe
