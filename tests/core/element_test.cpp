#include <moe/core/element.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>

using moe::BFloat16, moe::Half;

static_assert(sizeof(Half) == 2 && alignof(Half) == 2 && std::is_standard_layout_v<Half>);
static_assert(sizeof(BFloat16) == 2 && alignof(BFloat16) == 2);
static_assert(std::is_standard_layout_v<BFloat16> && std::is_trivially_copyable_v<BFloat16>);
static_assert(std::is_trivially_copyable_v<Half>);
static_assert(std::is_convertible_v<Half, float> && !std::is_convertible_v<float, Half>);
static_assert(std::is_convertible_v<BFloat16, float> && !std::is_convertible_v<float, BFloat16>);
static_assert(!std::is_convertible_v<Half, BFloat16> && !std::is_convertible_v<BFloat16, Half>);
static_assert(moe::Element<float> && moe::Element<double> && moe::Element<Half>);
static_assert(moe::Element<BFloat16> && !moe::Element<int> && !moe::Element<float const>);
static_assert(std::is_same_v<moe::accumulator_t<Half>, float>);
static_assert(std::is_same_v<moe::accumulator_t<double const>, double>);
static_assert(Half(1.f).bits == 0x3c00 && BFloat16(1.f).bits == 0x3f80);  // constexpr
static_assert(Half(-2.f) == -2.f && BFloat16(-2.f) == -2.f);

namespace {

template <class T>
struct Format;
template <>
struct Format<Half> {
  static constexpr int mantissa = 10, min_exponent = -14, exponents_end = 16;
};
template <>
struct Format<BFloat16> {
  static constexpr int mantissa = 7, min_exponent = -126, exponents_end = 128;
};

// Round to nearest even, as the textbook says it: in double, where every step is exact.
template <class T>
double rounded(float value)
{
  using F = Format<T>;
  if (value == 0 || !std::isfinite(value)) { return static_cast<double>(value); }
  auto const v       = static_cast<double>(value);
  int const exponent = std::max(std::ilogb(v), F::min_exponent);
  double const ulp   = std::ldexp(1.0, exponent - F::mantissa);
  double const whole = std::floor(v / ulp), rest = v / ulp - whole;
  bool const up       = rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2.0) != 0);
  double const result = (up ? whole + 1 : whole) * ulp;
  if (std::abs(result) >= std::ldexp(1.0, F::exponents_end)) {
    return std::copysign(std::numeric_limits<double>::infinity(), v);
  }
  return std::copysign(result, v);
}

template <class T>
bool agrees(float value)
{
  auto const got = static_cast<double>(static_cast<float>(T(value)));
  if (std::isnan(value)) { return std::isnan(got) && std::signbit(got) == std::signbit(value); }
  double const want = rounded<T>(value);
  return got == want && std::signbit(got) == std::signbit(want);
}

// The floats at and beside everything that decides a rounding: values of T, their middles, limits.
template <class T>
void check_borders()
{
  int wrong = 0;
  for (std::uint32_t b = 0; b < 0x10000; ++b) {
    T t;
    t.bits                = static_cast<std::uint16_t>(b);
    float const value     = t;
    std::uint32_t const u = std::bit_cast<std::uint32_t>(value);
    std::uint32_t const half_step =
        1u << (22 - Format<T>::mantissa);  // to the middle, where both are normal
    for (std::uint32_t near : {u, u + half_step}) {
      for (std::uint32_t by : {0u, 1u, ~0u}) {
        if (!agrees<T>(std::bit_cast<float>(near + by))) { ++wrong; }
      }
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE_TEMPLATE("every bit pattern of a 16-bit type survives float", T, Half, BFloat16)
{
  int wrong = 0;
  for (std::uint32_t b = 0; b < 0x10000; ++b) {
    T t;
    t.bits            = static_cast<std::uint16_t>(b);
    float const value = t;
    T const back(value);
    bool const same = std::isnan(value) ? std::isnan(static_cast<float>(back)) &&
                                              ((back.bits ^ t.bits) & 0x8000) == 0
                                        : back.bits == t.bits;
    if (!same) { ++wrong; }
  }
  CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("a float is rounded to the nearest, ties to even", T, Half, BFloat16)
{
  check_borders<T>();
  std::mt19937 random(1);
  int wrong = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    if (!agrees<T>(std::bit_cast<float>(static_cast<std::uint32_t>(random())))) { ++wrong; }
  }
  // Half has few exponents; most bit patterns lie outside them.
  std::uniform_real_distribution<float> exponent(-26, 17);
  for (int i = 0; i < 1'000'000; ++i) {
    if (!agrees<T>(std::exp2(exponent(random)) * (i % 2 == 0 ? 1.f : -1.f))) { ++wrong; }
  }
  CHECK(wrong == 0);
}

TEST_CASE("half: the limits")
{
  CHECK(Half(65504.f).bits == 0x7bff);
  CHECK(Half(65519.99f).bits == 0x7bff);
  CHECK(Half(65520.f).bits == 0x7c00);
  CHECK(Half(-1e30f).bits == 0xfc00);
  CHECK(Half(0x1p-24f).bits == 1);
  CHECK(Half(0x1p-25f).bits == 0);  // a tie, to even
  CHECK(Half(0x1.8p-24f).bits == 2);
  CHECK(Half(0x1.002p-25f).bits == 1);
  CHECK(Half(-0.f).bits == 0x8000);
  CHECK(Half(0x1.ffcp-15f).bits == 0x3ff + 1);  // the largest subnormal's tie is the least normal
  CHECK(Half(std::numeric_limits<float>::denorm_min()).bits == 0);
  CHECK(std::isnan(static_cast<float>(Half(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("bfloat16: the limits")
{
  float const largest = std::bit_cast<float>(0x7f7f0000u);
  CHECK(BFloat16(largest).bits == 0x7f7f);
  CHECK(BFloat16(std::bit_cast<float>(0x7f7f7fffu)).bits == 0x7f7f);
  CHECK(BFloat16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(BFloat16(std::bit_cast<float>(0x00008000u)).bits == 0);  // a tie, to even
  CHECK(BFloat16(std::bit_cast<float>(0x00008001u)).bits == 1);
  // A NaN whose payload is only in the lower half stays one.
  CHECK(std::isnan(static_cast<float>(BFloat16(std::bit_cast<float>(0x7f800001u)))));
  CHECK(std::isnan(static_cast<float>(BFloat16(std::bit_cast<float>(0xffffffffu)))));
}

#if defined(__FLT16_MANT_DIG__)
TEST_CASE("half agrees with the compiler's _Float16")
{
  __extension__ using Float16 = _Float16;
  int wrong                   = 0;
  for (std::uint64_t u = 0; u < (std::uint64_t{1} << 32); u += 1021) {
    auto const value = std::bit_cast<float>(static_cast<std::uint32_t>(u));
    if (std::isnan(value)) { continue; }
    auto const other = static_cast<Float16>(value);
    if (std::bit_cast<std::uint16_t>(other) != Half(value).bits) { ++wrong; }
    if (static_cast<float>(other) != static_cast<float>(Half(value))) { ++wrong; }
  }
  CHECK(wrong == 0);
}
#endif
