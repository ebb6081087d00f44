#pragma once
// Neighbouring elements as one load or store: 16 bytes of them, or one.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstddef>
#include <cstdint>

#include <moe/core/element.hpp>
#include <moe/core/view.hpp>

namespace moe::detail {

template <class T, int N>
struct alignas(static_cast<std::size_t>(N) * sizeof(T)) Vector {
  static constexpr int size = N;
  T items[static_cast<std::size_t>(N)];

  __device__ T& operator[](int i) { return items[i]; }
  __device__ T const& operator[](int i) const { return items[i]; }
};
template <class T>
using Vector16 = Vector<T, 16 / static_cast<int>(sizeof(T))>;

// N is Vector16<T>::size or, for rows that are not aligned, 1.
template <int N, class T>
__device__ Vector<T, N> load_vector(T const* from)
{
  Vector<T, N> v;
  if constexpr (N == 1) {
    v[0] = *from;
  } else {
    *reinterpret_cast<uint4*>(v.items) = *reinterpret_cast<uint4 const*>(from);
  }
  return v;
}
template <class T, int N>
__device__ void store_vector(T* to, Vector<T, N> const& v)
{
  if constexpr (N == 1) {
    *to = v[0];
  } else {
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<uint4 const*>(v.items);
  }
}
template <class T>
__device__ Vector16<T> load_16(T const* from)
{
  return load_vector<Vector16<T>::size>(from);
}
template <class T>
__device__ void store_16(T* to, Vector16<T> const& v)
{
  store_vector(to, v);
}

// Whether all rows of these matrices may be read and written 16 bytes at a time.
template <class... Views>
bool rows_aligned_16(Views const&... views)
{
  auto const one = [](auto const& v) {
    using T          = typename std::decay_t<decltype(v)>::value_type;
    auto const bytes = static_cast<std::uintptr_t>(v.extent(1)) * sizeof(T);
    return reinterpret_cast<std::uintptr_t>(v.data_handle()) % 16 == 0 && bytes % 16 == 0;
  };
  return (one(views) && ...);
}

}  // namespace moe::detail
