#pragma once
// Counter-based random numbers: pure functions of a counter and a key, so that they do not depend
// on how work is spread over threads or ranks, and can be drawn again.
#include <cmath>
#include <cstdint>

#include <moe/core/element.hpp>
#include <moe/core/view.hpp>

namespace moe {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; 2011).
MOE_HOST_DEVICE constexpr Array<std::uint32_t, 4> philox4x32(Array<std::uint32_t, 4> counter,
                                                             Array<std::uint32_t, 2> key)
{
  for (int round = 0; round < 10; ++round) {
    std::uint64_t const a = std::uint64_t{0xd2511f53u} * counter[0];
    std::uint64_t const b = std::uint64_t{0xcd9e8d57u} * counter[2];
    counter               = {{static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0],
                              static_cast<std::uint32_t>(b),
                              static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1],
                              static_cast<std::uint32_t>(a)}};
    key[0] += 0x9e3779b9u;
    key[1] += 0xbb67ae85u;
  }
  return counter;
}

// In the open interval (0, 1): the middle of one of 2^23 (2^52 in double) cells.
template <RoutingScalar S>
MOE_HOST_DEVICE constexpr S uniform_from(std::uint32_t hi, std::uint32_t lo)
{
  if constexpr (sizeof(S) == sizeof(float)) {
    return (static_cast<float>(hi >> 9) + 0.5f) * 0x1p-23f;
  } else {
    std::uint64_t const bits = (std::uint64_t{hi} << 32) | lo;
    return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
  }
}

// Standard normal (Box and Muller 1958): sqrt(-2 ln u) cos(2 pi v).
template <RoutingScalar S>
MOE_HOST_DEVICE S normal_from(Array<std::uint32_t, 4> const& bits)
{
  S const u = uniform_from<S>(bits[0], bits[1]);
  S const v = uniform_from<S>(bits[2], bits[3]);
  return std::sqrt(S{-2} * std::log(u)) * std::cos(S(6.283185307179586) * v);
}

}  // namespace moe
