#pragma once
// The windows of OneSidedExchange: where in them what lies, and what goes with one.
#include <cstddef>

#include <moe/comm/communicator.hpp>
#include <moe/comm/window.hpp>
#include <moe/core/tensor.hpp>

namespace moe::detail {

// How every rank's window lies, the same on all. Bounds are of any rank.
struct OneSidedLayout {
  index_t ranks, tokens, choices;  // P, most T, most A
  index_t experts, experts_each;   // E; most L
  index_t width;                   // D
  index_t element, number;         // sizes of T and S

  std::size_t x, dy;   // (P, most T, D) rows that arrive, by source and token
  std::size_t home;    // (most A, D) outputs in slots, y forward and dx backward
  std::size_t d_home;  // (most A) gradients of weights in slots
  std::size_t count;   // (P, most L) rows of a source for each expert
  std::size_t first;   // (P) its first slot that comes here
  std::size_t token;   // (P, most A) of each slot that comes
  std::size_t weight;  // (P, most A)
  std::size_t bytes;

  OneSidedLayout(index_t P,
                 index_t most_tokens,
                 index_t most_choices,
                 index_t E,
                 index_t D,
                 std::size_t element_bytes,
                 std::size_t number_bytes)
      : ranks{P},
        tokens{most_tokens},
        choices{most_choices},
        experts{E},
        experts_each{(E + P - 1) / P},
        width{D},
        element{static_cast<index_t>(element_bytes)},
        number{static_cast<index_t>(number_bytes)}
  {
    std::size_t end   = 0;
    auto const region = [&](index_t n, index_t each, index_t size) {
      std::size_t const at = end;
      index_t const all    = times(times(n, each), size);
      end += (static_cast<std::size_t>(all) + 255) / 256 * 256;
      return at;
    };
    x      = region(times(P, tokens), D, element);
    dy     = region(times(P, tokens), D, element);
    home   = region(choices, D, element);
    d_home = region(choices, 1, number);
    count  = region(P, experts_each, sizeof(Id));
    first  = region(P, 1, sizeof(Id));
    token  = region(P, choices, sizeof(Id));
    weight = region(P, choices, number);
    bytes  = end;
  }
  friend bool operator==(OneSidedLayout const&, OneSidedLayout const&) = default;

 private:
  static index_t times(index_t a, index_t b)
  {
    return checked_mul("moe::OneSidedExchange", "bytes of a window", a, b);
  }
};

// Every rank's window, as kernels have it.
struct OneSidedMemory {
  WindowView view;
  OneSidedLayout at;

  template <class V>
  [[nodiscard]] MOE_HOST_DEVICE V* in(index_t rank, std::size_t region) const
  {
    return reinterpret_cast<V*>(view.of(static_cast<int>(rank)) + region);
  }
  template <class V>
  [[nodiscard]] MOE_HOST_DEVICE V* here(std::size_t region) const
  {
    return in<V>(view.rank, region);
  }
  // Row i of a region of rows.
  template <class T>
  [[nodiscard]] MOE_HOST_DEVICE T* row(index_t rank, std::size_t region, index_t i) const
  {
    return in<T>(rank, region) + i * at.width;
  }
};

// A window, and what of the rows that arrived in it is worked out on the device.
template <class ExecT>
struct OneSidedSlot {
  template <class CommT>
  OneSidedSlot(ExecT const& exec,
               CommT const& comm,
               OneSidedLayout const& lies,
               index_t experts,
               WindowOptions const& options)
      : layout{lies},
        count(exec, lies.ranks * experts),
        first(exec, lies.ranks),
        offsets(exec, experts + 1),
        arrived_at(exec, lies.ranks * lies.choices),
        home_at(exec, lies.ranks * lies.choices),
        part_of(exec, lies.choices),
        goes_to(exec, lies.choices),
        window{made_quietly(exec, comm, lies.bytes, options)}
  {
    exec.zero(offsets.view().data_handle(), offsets.bytes());
  }
  [[nodiscard]] OneSidedMemory memory() const { return {window.view(), layout}; }
  [[nodiscard]] index_t experts() const { return offsets.extent(0) - 1; }  // L

  OneSidedLayout layout;
  Tensor<Id, 1, ExecT> count;                // (P * L)
  Tensor<Id, 1, ExecT> first;                // (P)
  Tensor<Id, 1, ExecT> offsets;              // (L + 1)
  Tensor<Id, 1, ExecT> arrived_at, home_at;  // (R), R = P * most A
  Tensor<Id, 1, ExecT> part_of, goes_to;     // (most A) of the choices here
  Window<ExecT> window;

 private:
  // Making one asks the driver for memory, which may wait for all that runs on a GPU; where ranks
  // share it, that must not be waits for a rank that is kept from the driver by this. So nobody
  // waits for anybody by then.
  template <class CommT>
  [[nodiscard]] Window<ExecT> made_quietly(ExecT const& exec,
                                           CommT const& comm,
                                           std::size_t bytes,
                                           WindowOptions const& options)
  {
    auto const quiet = [&] {
      wait_for_ranks(exec, comm);
      exec.synchronize();
    };
    exec.zero(first.view().data_handle(), first.bytes());
    quiet();
    comm.all_reduce_sum(exec, first.view());
    quiet();
    return comm.window(exec, bytes, options);
  }
};

}  // namespace moe::detail
