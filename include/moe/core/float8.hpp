#pragma once
// An 8-bit floating-point number for rows on their way between ranks. Nothing is computed in it, so
// it is none of the element types.
#include <cstdint>

#include <moe/core/element.hpp>

namespace moe {
namespace detail {

// e4m3 <-> binary32, round to nearest even, as OCP's FP8 specification has it: no infinity, so what
// is larger than 448 becomes 448; any NaN becomes 0x7f. Written with integers so that it is the
// same on every compiler. GPUs since compute capability 8.9 have instructions for it, with the same
// results.
MOE_HOST_DEVICE constexpr std::uint8_t float8_bits(float value)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  if (!__builtin_is_constant_evaluated()) {
    std::uint16_t pair = 0;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.f), "f"(value));
    return static_cast<std::uint8_t>(pair & 0xffu);
  }
#endif
  auto const u                   = bit_cast<std::uint32_t>(value);
  std::uint32_t const sign       = (u >> 24) & 0x80u;
  std::uint32_t const value_bits = u & 0x7fffffffu;
  if (value_bits > 0x7f800000u) { return 0x7fu; }                                     // NaN
  if (value_bits >= 0x43e00000u) { return static_cast<std::uint8_t>(sign | 0x7eu); }  // 448
  if (value_bits < 0x3c800000u) {  // below 2^-6: subnormal, in steps of 2^-9, or zero
    if (value_bits <= 0x3a800000u) { return static_cast<std::uint8_t>(sign); }
    std::uint32_t const exponent = value_bits >> 23;
    std::uint32_t const mantissa = (value_bits & 0x7fffffu) | 0x800000u;
    std::uint32_t const shift    = 141 - exponent;
    std::uint32_t const rest     = mantissa & ((1u << shift) - 1);
    std::uint32_t const middle   = 1u << (shift - 1);
    std::uint32_t result         = mantissa >> shift;
    if (rest > middle || (rest == middle && (result & 1))) { ++result; }
    return static_cast<std::uint8_t>(sign | result);
  }
  std::uint32_t const rounded = value_bits + 0x7ffffu + ((value_bits >> 20) & 1);
  return static_cast<std::uint8_t>(sign | ((rounded - 0x3c000000u) >> 20));
}

MOE_HOST_DEVICE constexpr float float8_value(std::uint8_t bits)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  if (!__builtin_is_constant_evaluated()) {
    std::uint32_t pair = 0;  // of binary16, of which every e4m3 is one
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"(static_cast<std::uint16_t>(bits)));
    return half_value(static_cast<std::uint16_t>(pair & 0xffffu));
  }
#endif
  std::uint32_t const sign     = static_cast<std::uint32_t>(bits & 0x80u) << 24;
  std::uint32_t const exponent = (bits >> 3) & 0xfu;
  std::uint32_t const mantissa = bits & 0x7u;
  if ((bits & 0x7fu) == 0x7fu) { return bit_cast<float>(sign | 0x7fc00000u); }
  if (exponent == 0) {
    float const magnitude = static_cast<float>(mantissa) * 0x1p-9f;
    return bit_cast<float>(sign | bit_cast<std::uint32_t>(magnitude));
  }
  return bit_cast<float>(sign | ((exponent + 120) << 23) | (mantissa << 20));
}

}  // namespace detail

// e4m3: 4 bits of exponent, 3 of mantissa, +-448 the largest (Micikevicius et al. 2022).
struct Float8 {
  std::uint8_t bits = 0;

  Float8() = default;
  MOE_HOST_DEVICE constexpr explicit Float8(float value) : bits{detail::float8_bits(value)} {}
  MOE_HOST_DEVICE constexpr operator float() const { return detail::float8_value(bits); }
};

}  // namespace moe
