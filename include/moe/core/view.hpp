#pragma once
// Non-owning, row-major views that name the space their memory belongs to, and the index types.
// Letters in shape comments: T tokens, D hidden, F expert ffn, E experts, L local experts,
// K choices per token, A = T*K assignments, R rows at the experts, C slots per expert, P ranks.
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <moe/core/config.hpp>

namespace moe {

// Extents are 64-bit: 64 Ki tokens x 8 choices x 7168 columns is 3.8e9 elements. Ids kept in memory
// (experts, slots, tokens) are 32-bit.
using index_t = std::int64_t;
using Id      = std::int32_t;

// std::array for host and device code (std::array's members are not __device__).
template <class T, int N>
struct Array {
  T items[std::size_t{N > 0 ? N : 1}];

  MOE_HOST_DEVICE constexpr T& operator[](index_t i) { return items[i]; }
  MOE_HOST_DEVICE constexpr T const& operator[](index_t i) const { return items[i]; }
  MOE_HOST_DEVICE static constexpr int size() { return N; }
  MOE_HOST_DEVICE constexpr T* begin() { return items; }
  MOE_HOST_DEVICE constexpr T* end() { return items + N; }
  MOE_HOST_DEVICE constexpr T const* begin() const { return items; }
  MOE_HOST_DEVICE constexpr T const* end() const { return items + N; }
  friend constexpr bool operator==(Array const&, Array const&) = default;
};

// Anything that looks like an mdspan: a pointer and extents.
template <class V>
concept HasDataHandleAndExtent = requires(V const v) {
  v.data_handle();
  { v.extent(0) } -> std::convertible_to<index_t>;
};

// SpaceT says whose memory it is (moe::Host, moe::Cuda): views of different spaces do not convert
// into one another, so host and device memory cannot be mixed by accident.
template <class T, int Rank, class SpaceT>
class View {
 public:
  using element_type        = T;
  using value_type          = std::remove_const_t<T>;
  using space_type          = SpaceT;
  static constexpr int rank = Rank;

  View() = default;

  MOE_HOST_DEVICE constexpr View(T* data, Array<index_t, Rank> extents)
      : data_{data}, extents_{extents}
  {
  }

  template <std::integral... Extents>
    requires(sizeof...(Extents) == Rank)
  MOE_HOST_DEVICE constexpr explicit View(T* data, Extents... extents)
      : data_{data}, extents_{static_cast<index_t>(extents)...}
  {
  }

  // From the view that may write.
  template <class U>
    requires(!std::is_const_v<U> && std::is_same_v<T, U const>)
  MOE_HOST_DEVICE constexpr View(View<U, Rank, SpaceT> const& v)
      : data_{v.data_handle()}, extents_{v.extents()}
  {
  }

  // From a std::mdspan, Kokkos::View or the like. Row-major and contiguous only; that is not
  // checked here, since not every such type can say it.
  template <HasDataHandleAndExtent V>
    requires(!requires { typename V::space_type; })
  constexpr explicit View(V const& v) : data_{v.data_handle()}
  {
    for (int r = 0; r < Rank; ++r) {
      extents_[r] = static_cast<index_t>(v.extent(static_cast<std::size_t>(r)));
    }
  }

  [[nodiscard]] MOE_HOST_DEVICE constexpr T* data_handle() const { return data_; }
  [[nodiscard]] MOE_HOST_DEVICE constexpr index_t extent(int r) const { return extents_[r]; }
  [[nodiscard]] MOE_HOST_DEVICE constexpr Array<index_t, Rank> const& extents() const
  {
    return extents_;
  }
  [[nodiscard]] MOE_HOST_DEVICE constexpr index_t size() const
  {
    std::uint64_t n = 1;  // so that a zero extent beside huge ones is no overflow
    for (int r = 0; r < Rank; ++r) {
      n *= static_cast<std::uint64_t>(extents_[r]);
    }
    return static_cast<index_t>(n);
  }
  [[nodiscard]] MOE_HOST_DEVICE constexpr bool empty() const { return size() == 0; }

  // Only where the space computes: row functors and the space's own primitives.
  MOE_HOST_DEVICE constexpr T& operator()(index_t i) const
    requires(Rank == 1)
  {
    return data_[i];
  }
  MOE_HOST_DEVICE constexpr T& operator()(index_t i, index_t j) const
    requires(Rank == 2)
  {
    return data_[i * extents_[1] + j];
  }
  MOE_HOST_DEVICE constexpr T& operator()(index_t i, index_t j, index_t k) const
    requires(Rank == 3)
  {
    return data_[(i * extents_[1] + j) * extents_[2] + k];
  }

 private:
  T* data_ = nullptr;
  Array<index_t, Rank> extents_{};
};

// One row as policy code sees it: a pointer and a length, of no space, since a row functor runs
// where the memory is.
template <class T>
class Row {
 public:
  constexpr Row() = default;
  MOE_HOST_DEVICE constexpr Row(T* data, index_t size) : data_{data}, size_{size} {}
  template <class U>
    requires(!std::is_const_v<U> && std::is_same_v<T, U const>)
  MOE_HOST_DEVICE constexpr Row(Row<U> const& r) : data_{r.data()}, size_{r.size()}
  {
  }

  [[nodiscard]] MOE_HOST_DEVICE constexpr Id size() const { return static_cast<Id>(size_); }
  [[nodiscard]] MOE_HOST_DEVICE constexpr bool empty() const { return size_ == 0; }
  [[nodiscard]] MOE_HOST_DEVICE constexpr T* data() const { return data_; }
  MOE_HOST_DEVICE constexpr T& operator[](index_t i) const { return data_[i]; }
  [[nodiscard]] MOE_HOST_DEVICE constexpr Row first(index_t n) const { return {data_, n}; }
  [[nodiscard]] MOE_HOST_DEVICE constexpr Row last(index_t n) const
  {
    return {data_ + size_ - n, n};
  }

 private:
  T* data_      = nullptr;
  index_t size_ = 0;
};

template <class T, class SpaceT>
MOE_HOST_DEVICE constexpr Row<T> row(View<T, 2, SpaceT> m, index_t i)
{
  return {m.data_handle() + i * m.extent(1), m.extent(1)};
}

}  // namespace moe
