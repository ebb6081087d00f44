#pragma once
// Elements to the type that sums are taken in: one at a time, and four at a time (the compilers do
// not make vectors of the 16-bit conversions by themselves at -O2).
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <moe/core/element.hpp>

namespace moe::detail {

template <class S, class T>
S widen(T x)
{
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<S>(x);
  } else {
    return static_cast<S>(static_cast<float>(x));
  }
}

template <class S>
struct Four {
  typedef S Vector __attribute__((vector_size(4 * sizeof(S))));
};

// The four bit patterns of `in` as floats; the cases of half_value (core/element.hpp) as masks.
template <class T>
inline void float_bits_4(T const* in, Four<std::uint32_t>::Vector& bits)
{
  Four<std::uint16_t>::Vector raw;
  std::memcpy(&raw, in, sizeof(raw));
  auto const u = __builtin_convertvector(raw, Four<std::uint32_t>::Vector);
  if constexpr (std::is_same_v<T, BFloat16>) {
    bits = u << 16;
  } else {
    auto const exponent  = u & 0x7c00u;
    auto const mantissa  = u & 0x3ffu;
    auto const subnormal = __builtin_convertvector(mantissa, Four<float>::Vector) * 0x1p-24f;
    Four<std::uint32_t>::Vector subnormal_bits;
    std::memcpy(&subnormal_bits, &subnormal, sizeof(subnormal));
    auto const is_subnormal = reinterpret_cast<Four<std::uint32_t>::Vector>(exponent == 0u);
    auto const is_large     = reinterpret_cast<Four<std::uint32_t>::Vector>(exponent == 0x7c00u);
    auto const normal       = ((u & 0x7fffu) << 13) + (112u << 23) + (is_large & (112u << 23));
    bits = ((u & 0x8000u) << 16) | (subnormal_bits & is_subnormal) | (normal & ~is_subnormal);
  }
}

template <class T, class Vector>
inline void widen_4(T const* in, Vector& out)
{
  if constexpr (std::is_floating_point_v<T>) {
    typename Four<T>::Vector raw;
    std::memcpy(&raw, in, sizeof(raw));
    out = __builtin_convertvector(raw, Vector);
  } else {
    Four<std::uint32_t>::Vector bits;
    float_bits_4(in, bits);
    Four<float>::Vector value;
    std::memcpy(&value, &bits, sizeof(bits));
    out = __builtin_convertvector(value, Vector);
  }
}

template <int N, class S, class T>
inline void widen_row(T const* in, S* out)
{
  int i = 0;
  for (; i + 4 <= N; i += 4) {
    typename Four<S>::Vector four;
    widen_4(in + i, four);
    std::memcpy(out + i, &four, sizeof(four));
  }
  for (; i < N; ++i) {
    out[i] = widen<S>(in[i]);
  }
}

}  // namespace moe::detail
