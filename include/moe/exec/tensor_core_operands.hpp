#pragma once
// Which operands the tensor cores' kernels take: of types, places and extents alone and without
// CUDA, so that a memory plan decides as Cuda does.
#include <cstdint>
#include <type_traits>

#include <moe/core/element.hpp>
#include <moe/core/view.hpp>

namespace moe::detail {

template <class... Ts>
inline constexpr bool tensor_core_elements =
    ((std::is_same_v<Ts, Half> && ...) || (std::is_same_v<Ts, BFloat16> && ...));

// Whether rows of `columns` elements can be read and written 16 bytes at a time, all eight elements
// of which exist; the kernels hold their length in 32 bits.
template <class T>
bool aligned_16(T const* base, index_t columns)
{
  return reinterpret_cast<std::uintptr_t>(base) % 16 == 0 && columns % 8 == 0 &&
         columns <= (1 << 30);
}

// Rows that the kernels can number: 64 GiB of them.
template <class T, class ExecT>
bool within_64_gib(View<T, 2, ExecT> rows)
{
  return rows.size() / 8 < ~std::uint32_t{0};
}

// How many k's the warp-specialised kernels multiply at a time; a rows product of theirs has more.
inline constexpr int hopper_step = 64;

// How far the coordinates of a tensor map of ragged rows reach (cuda/hopper/tensor_map.cuh).
inline constexpr int ragged_span = 1 << 30;

}  // namespace moe::detail
