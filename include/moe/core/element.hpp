#pragma once
// Element types: float, double, and the two 16-bit ones, which are ours in every translation unit
// (an alias to CUDA's in some of them would break the one-definition rule) and laid out as CUDA's.
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <moe/core/config.hpp>

namespace moe {

// std::bit_cast and std::numeric_limits for host and device code (the standard's are not
// __device__).
template <class To, class From>
  requires(sizeof(To) == sizeof(From))
MOE_HOST_DEVICE constexpr To bit_cast(From const& from) noexcept
{
  return __builtin_bit_cast(To, from);
}
template <class S>
inline constexpr S largest_finite = std::numeric_limits<S>::max();
template <class S>
inline constexpr S infinity = std::numeric_limits<S>::infinity();

namespace detail {

// IEEE binary16 <-> binary32, round to nearest even; written with integers so that it is the same
// on every compiler. A GPU has instructions for it, with the same results but for a NaN's payload.
MOE_HOST_DEVICE constexpr std::uint16_t half_bits(float value)
{
#if defined(__CUDA_ARCH__)
  if (!__builtin_is_constant_evaluated()) {
    std::uint16_t bits = 0;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
  }
#endif
  auto const u                   = bit_cast<std::uint32_t>(value);
  std::uint32_t const sign       = (u >> 16) & 0x8000u;
  std::uint32_t const value_bits = u & 0x7fffffffu;
  if (value_bits > 0x7f800000u) { return static_cast<std::uint16_t>(sign | 0x7e00u); }   // NaN
  if (value_bits >= 0x477ff000u) { return static_cast<std::uint16_t>(sign | 0x7c00u); }  // overflow
  if (value_bits < 0x38800000u) {  // subnormal half, or zero
    if (value_bits < 0x33000000u) { return static_cast<std::uint16_t>(sign); }
    std::uint32_t const exponent = value_bits >> 23;
    std::uint32_t const mantissa = (value_bits & 0x7fffffu) | 0x800000u;
    std::uint32_t const shift    = 126 - exponent;
    std::uint32_t const rest     = mantissa & ((1u << shift) - 1);
    std::uint32_t const middle   = 1u << (shift - 1);
    std::uint32_t result         = mantissa >> shift;
    if (rest > middle || (rest == middle && (result & 1))) { ++result; }
    return static_cast<std::uint16_t>(sign | result);
  }
  std::uint32_t const rounded = value_bits + 0xfffu + ((value_bits >> 13) & 1);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

MOE_HOST_DEVICE constexpr float half_value(std::uint16_t h)
{
#if defined(__CUDA_ARCH__)
  if (!__builtin_is_constant_evaluated()) {
    float value = 0;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(h));
    return value;
  }
#endif
  std::uint32_t const sign     = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  std::uint32_t const exponent = (h >> 10) & 0x1fu;
  std::uint32_t const mantissa = h & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    float const magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return bit_cast<float>(sign | bit_cast<std::uint32_t>(magnitude));
  }
  if (exponent == 31) { return bit_cast<float>(sign | 0x7f800000u | (mantissa << 13)); }
  return bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

MOE_HOST_DEVICE constexpr std::uint16_t bfloat16_bits(float value)
{
#if defined(__CUDA_ARCH__)
  if (!__builtin_is_constant_evaluated()) {
    std::uint16_t bits = 0;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
  }
#endif
  auto const u = bit_cast<std::uint32_t>(value);
  if ((u & 0x7fffffffu) > 0x7f800000u) { return static_cast<std::uint16_t>((u >> 16) | 0x40u); }
  return static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

}  // namespace detail

// IEEE binary16. Arithmetic happens in float: convert, compute, convert back.
struct Half {
  std::uint16_t bits = 0;

  Half() = default;
  MOE_HOST_DEVICE constexpr explicit Half(float value) : bits{detail::half_bits(value)} {}
  MOE_HOST_DEVICE constexpr operator float() const { return detail::half_value(bits); }
};

// The upper half of an IEEE binary32.
struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;
  MOE_HOST_DEVICE constexpr explicit BFloat16(float value) : bits{detail::bfloat16_bits(value)} {}
  MOE_HOST_DEVICE constexpr operator float() const
  {
    return bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

template <class T>
concept Element = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, Half> ||
                  std::same_as<T, BFloat16>;

// What sums, logits, routing weights and losses are computed in: float, or double in a double layer
// (so that gradient checks are sharp).
template <class T>
using accumulator_t =
    std::conditional_t<std::same_as<std::remove_const_t<T>, double>, double, float>;

template <class S>
concept RoutingScalar = std::same_as<S, float> || std::same_as<S, double>;

}  // namespace moe
