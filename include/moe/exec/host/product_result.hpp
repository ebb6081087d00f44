#pragma once
// Where Host's own products leave their sums: the bias, the old value, and the one rounding.
#include <bit>
#include <cstdint>
#include <type_traits>

#include <moe/core/element.hpp>
#include <moe/core/view.hpp>
#include <moe/exec/host/widen.hpp>

namespace moe::detail {

// Rounds to the element once: by way of a float with an odd last bit, which loses no tie.
template <class T, class S>
T narrow(S x)
{
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(x);
  } else if constexpr (std::is_same_v<S, float>) {
    return T(x);
  } else {
    float f                  = static_cast<float>(x);
    std::uint32_t const bits = std::bit_cast<std::uint32_t>(f);
    bool const finite        = (bits & 0x7f800000u) != 0x7f800000u;
    if (finite && (bits & 1u) == 0 && static_cast<S>(f) != x) {
      bool const up = (x > static_cast<S>(f)) == (x > 0);  // away from zero
      f             = std::bit_cast<float>(up ? bits + 1 : bits - 1);
    }
    return T(f);
  }
}

// One row of the result, and one of the bias, behind their element types.
template <class S, class T>
void store_row(void* base, index_t at, index_t n, S const* sum, bool add)
{
  T* const to = static_cast<T*>(base) + at;
  if (add) {
    for (index_t i = 0; i < n; ++i) {
      to[i] = narrow<T>(widen<S>(to[i]) + sum[i]);
    }
  } else {
    for (index_t i = 0; i < n; ++i) {
      to[i] = narrow<T>(sum[i]);
    }
  }
}
template <class S, class T>
void add_row(void const* base, index_t at, index_t n, S* sum)
{
  T const* const from = static_cast<T const*>(base) + at;
  for (index_t i = 0; i < n; ++i) {
    sum[i] += widen<S>(from[i]);
  }
}

template <class S>
struct ProductResult {
  void* base;
  bool add;
  void (*store)(void* base, index_t at, index_t n, S const* sum, bool add);
  void const* bias;
  void (*add_bias)(void const* base, index_t at, index_t n, S* sum);
};

}  // namespace moe::detail
