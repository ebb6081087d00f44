#pragma once
// 16 bytes of neighbouring elements as one load or store.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <moe/core/element.hpp>
#include <moe/core/view.hpp>

namespace moe::detail {

template <class T>
struct alignas(16) Vector16 {
  static constexpr int size = 16 / static_cast<int>(sizeof(T));
  T items[static_cast<std::size_t>(size)];

  __device__ T& operator[](int i) { return items[i]; }
  __device__ T const& operator[](int i) const { return items[i]; }
};

template <class T>
__device__ Vector16<T> load_16(T const* from)
{
  Vector16<T> v;
  *reinterpret_cast<uint4*>(v.items) = *reinterpret_cast<uint4 const*>(from);
  return v;
}
template <class T>
__device__ void store_16(T* to, Vector16<T> const& v)
{
  *reinterpret_cast<uint4*>(to) = *reinterpret_cast<uint4 const*>(v.items);
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
