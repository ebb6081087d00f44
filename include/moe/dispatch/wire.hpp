#pragma once
// Contract: a wire is how a row is written while it travels between ranks. Sums stay in the
// accumulator's type whatever the wire.
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <moe/core/element.hpp>
#include <moe/core/float8.hpp>
#include <moe/core/team.hpp>

namespace moe {
namespace detail {

MOE_HOST_DEVICE constexpr index_t round_up_16(index_t bytes)
{
  return (bytes + 15) / 16 * 16;
}

// So that every byte that travels has been written.
template <Team G>
MOE_HOST_DEVICE void zero_bytes(G team, std::byte* to, index_t begin, index_t end)
{
  for (index_t i = begin + team.lane(); i < end; i += team.size()) {
    to[i] = std::byte{0};
  }
}

}  // namespace detail

//   in_place<T>        a row on the wire is a row of T: used as it came, never decoded
//   exact<T>           decode gives back what encode was given, but for a NaN's payload
//   row_bytes<T>(D)    of a row of D columns; if not in place a multiple of 16, so that rows stay
//                      aligned
//   encode(team, from, D, to)   from D elements to row_bytes<T>(D) bytes, all of them written
//   decode(team, from, D, to)   and back; a row of zero bytes is a row of zeros
// Both are maths of one row, the same bits in every space and for every team; `to` and `from` are
// aligned to 16 bytes where the wire is not in place. Gate weights and their gradients, rows of
// width 1, do not come here: they always travel exactly, in their own type.
template <class W, class T>
concept SaysExact = requires {
  { W::template exact<T> } -> std::convertible_to<bool>;
  { W::template in_place<T> } -> std::convertible_to<bool>;
};

template <class W, class T>
concept HasRowBytes = requires(W const w, index_t width) {
  { w.template row_bytes<T>(width) } -> std::same_as<index_t>;
};

template <class W, class T>
concept HasEncode =
    requires(W const w, SerialTeam team, T const* from, index_t width, std::byte* to) {
      { w.encode(team, from, width, to) } -> std::same_as<void>;
    };

template <class W, class T>
concept HasDecode =
    requires(W const w, SerialTeam team, std::byte const* from, index_t width, T* to) {
      { w.decode(team, from, width, to) } -> std::same_as<void>;
    };

// For rows of T. Trivially copyable because kernels take it by value.
template <class W, class T>
concept WireFor = std::is_trivially_copyable_v<W> && SaysExact<W, T> && HasRowBytes<W, T> &&
                  HasEncode<W, T> && HasDecode<W, T>;

template <class W>
concept Wire = WireFor<W, float> && WireFor<W, double> && WireFor<W, Half> && WireFor<W, BFloat16>;

// The element type itself.
struct ElementWire {
  template <class T>
  static constexpr bool in_place = true;
  template <class T>
  static constexpr bool exact = true;

  template <class T>
  MOE_HOST_DEVICE static constexpr index_t row_bytes(index_t width)
  {
    return width * index_t{sizeof(T)};
  }
  template <Team G, class T>
  MOE_HOST_DEVICE void encode(G team, T const* from, index_t width, std::byte* to) const
  {
    T* const row = reinterpret_cast<T*>(to);
    for (index_t d = team.lane(); d < width; d += team.size()) {
      row[d] = from[d];
    }
  }
  template <Team G, class T>
  MOE_HOST_DEVICE void decode(G team, std::byte const* from, index_t width, T* to) const
  {
    T const* const row = reinterpret_cast<T const*>(from);
    for (index_t d = team.lane(); d < width; d += team.size()) {
      to[d] = row[d];
    }
  }
};
static_assert(Wire<ElementWire>);

// Every element as an E, rounded to nearest even; a double goes by way of float. What is too large
// for E becomes infinite.
template <Element E>
  requires(!std::same_as<E, double>)
struct CastWire {
  template <class T>
  static constexpr bool in_place = std::same_as<T, E>;
  template <class T>
  static constexpr bool exact =
      std::same_as<T, E> || (std::same_as<E, float> && sizeof(T) < sizeof(E));

  template <class T>
  MOE_HOST_DEVICE static constexpr index_t row_bytes(index_t width)
  {
    index_t const bytes = width * index_t{sizeof(E)};
    return in_place<T> ? bytes : detail::round_up_16(bytes);
  }
  template <Team G, class T>
  MOE_HOST_DEVICE void encode(G team, T const* from, index_t width, std::byte* to) const
  {
    E* const row = reinterpret_cast<E*>(to);
    for (index_t d = team.lane(); d < width; d += team.size()) {
      row[d] = cast<E>(from[d]);
    }
    detail::zero_bytes(team, to, width * index_t{sizeof(E)}, row_bytes<T>(width));
  }
  template <Team G, class T>
  MOE_HOST_DEVICE void decode(G team, std::byte const* from, index_t width, T* to) const
  {
    E const* const row = reinterpret_cast<E const*>(from);
    for (index_t d = team.lane(); d < width; d += team.size()) {
      to[d] = cast<T>(row[d]);
    }
  }

  template <class To, class From>
  MOE_HOST_DEVICE static constexpr To cast(From x)
  {
    if constexpr (std::same_as<To, From>) {
      return x;
    } else {
      return static_cast<To>(static_cast<float>(x));
    }
  }
};
using FloatWire    = CastWire<float>;
using BFloat16Wire = CastWire<BFloat16>;
static_assert(Wire<FloatWire> && Wire<BFloat16Wire>);

// Scaled e4m3: a byte per element and, for every block of 128 columns, a float scale = amax / 448,
// amax being the largest finite |x| of the block. On the way back, before the rounding to T,
//   |decoded - x| <= max(|x| / 16, amax / 458000, 2^-135)
// (e4m3 has 4 significant bits, so |x| / 17 and the rounding of scale and products in float; below
// 2^-6 scale it has steps of 2^-9, so scale / 1024; scale is never less than 2^-126). Infinities
// and NaN arrive as NaN: what has overflowed stays visible, and the rest of its block is as good as
// ever. In a row: the bytes, zeros up to a multiple of 16, the scales, zeros again.
struct Float8Wire {
  static constexpr index_t block = 128;
  template <class>
  static constexpr bool in_place = false;
  template <class>
  static constexpr bool exact = false;

  template <class T>
  MOE_HOST_DEVICE static constexpr index_t row_bytes(index_t width)
  {
    return scales_at(width) + detail::round_up_16(scale_bytes(width));
  }
  template <Team G, class T>
  MOE_HOST_DEVICE void encode(G team, T const* from, index_t width, std::byte* to) const
  {
    float* const scales = reinterpret_cast<float*>(to + scales_at(width));
    for (index_t begin = 0; begin < width; begin += block) {
      index_t const end = begin + block < width ? begin + block : width;
      float amax        = 0;
      for (index_t d = begin + team.lane(); d < end; d += team.size()) {
        float const x         = static_cast<float>(from[d]);
        float const magnitude = x < 0 ? -x : x;
        if (finite(x) && magnitude > amax) { amax = magnitude; }
      }
      float const scale   = scale_of(team.max(amax));
      float const inverse = 1.f / scale;
      for (index_t d = begin + team.lane(); d < end; d += team.size()) {
        to[d] = static_cast<std::byte>(code(static_cast<float>(from[d]), inverse));
      }
      if (team.lane() == 0) { scales[begin / block] = scale; }
    }
    zero_padding<T>(team, width, to);
  }
  template <Team G, class T>
  MOE_HOST_DEVICE void decode(G team, std::byte const* from, index_t width, T* to) const
  {
    float const* const scales = reinterpret_cast<float const*>(from + scales_at(width));
    for (index_t d = team.lane(); d < width; d += team.size()) {
      to[d] = static_cast<T>(detail::float8_value(static_cast<std::uint8_t>(from[d])) *
                             scales[d / block]);
    }
  }

  // The parts, for kernels that take several columns at a time.
  MOE_HOST_DEVICE static constexpr index_t scales_at(index_t width)
  {
    return detail::round_up_16(width);
  }
  MOE_HOST_DEVICE static constexpr index_t scale_bytes(index_t width)
  {
    return (width + block - 1) / block * index_t{sizeof(float)};
  }
  MOE_HOST_DEVICE static constexpr bool finite(float x)
  {
    return (bit_cast<std::uint32_t>(x) & 0x7fffffffu) < 0x7f800000u;
  }
  // Not subnormal, so that it keeps its 24 bits and has an inverse.
  MOE_HOST_DEVICE static constexpr float scale_of(float amax)
  {
    float const scale = amax / 448.f;
    return scale > 0x1p-126f ? scale : 0x1p-126f;
  }
  MOE_HOST_DEVICE static constexpr std::uint8_t code(float x, float inverse)
  {
    return finite(x) ? detail::float8_bits(x * inverse) : std::uint8_t{0x7f};
  }
  template <class T, Team G>
  MOE_HOST_DEVICE static void zero_padding(G team, index_t width, std::byte* to)
  {
    detail::zero_bytes(team, to, width, scales_at(width));
    detail::zero_bytes(team, to, scales_at(width) + scale_bytes(width), row_bytes<T>(width));
  }
};
static_assert(Wire<Float8Wire>);

}  // namespace moe
