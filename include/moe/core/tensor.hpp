#pragma once
// Owning memory of a space.
#include <cstddef>
#include <type_traits>
#include <utility>

#include <moe/core/error.hpp>
#include <moe/core/view.hpp>

namespace moe {
namespace detail {

// Bytes of a space, returned to it in stream order. Out of line and of no element type, because a
// layer has dozens of tensors and whoever composes one compiles them.
template <class ExecT>
class Memory {
 public:
  Memory() = default;
  [[gnu::noinline]] Memory(ExecT const& exec, std::size_t bytes) : exec_{exec}, bytes_{bytes}
  {
    if (bytes > 0) { data_ = exec_.allocate(bytes); }
  }
  [[gnu::noinline]] Memory(Memory&& other) noexcept
      : exec_{other.exec_},
        bytes_{std::exchange(other.bytes_, 0)},
        data_{std::exchange(other.data_, nullptr)}
  {
  }
  [[gnu::noinline]] Memory& operator=(Memory&& other) noexcept
  {
    if (this != &other) {
      release();
      exec_  = other.exec_;
      bytes_ = std::exchange(other.bytes_, 0);
      data_  = std::exchange(other.data_, nullptr);
    }
    return *this;
  }
  Memory(Memory const&)            = delete;
  Memory& operator=(Memory const&) = delete;
  [[gnu::noinline]] ~Memory() { release(); }

  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  void release() noexcept
  {
    if (data_ != nullptr) { exec_.deallocate(data_, bytes_); }
  }

  ExecT exec_        = ExecT::none();  // holds no state until it owns memory
  std::size_t bytes_ = 0;
  void* data_        = nullptr;
};

// Of a tensor; refuses negative extents and what does not fit 63 bits.
[[gnu::noinline]] inline std::size_t tensor_bytes(std::size_t element,
                                                  index_t const* extents,
                                                  int rank)
{
  bool empty = false;
  for (int r = 0; r < rank; ++r) {
    if (extents[r] < 0) {
      Check{"moe::Tensor"}.fail<ShapeError>("extent", extents[r], "at least 0");
    }
    empty = empty || extents[r] == 0;
  }
  if (empty) { return 0; }
  auto n = static_cast<index_t>(element);
  for (int r = 0; r < rank; ++r) {
    n = checked_mul("moe::Tensor", "bytes", n, extents[r]);
  }
  return static_cast<std::size_t>(n);
}

}  // namespace detail

// Owning, uninitialised, move-only; its memory comes from and returns to `exec`, in stream order.
template <class T, int Rank, class ExecT>
class Tensor {
  static_assert(std::is_trivially_copyable_v<T>, "moe::Tensor holds trivially copyable elements");

 public:
  Tensor() = default;
  template <std::integral... Extents>
    requires(sizeof...(Extents) == Rank)
  explicit Tensor(ExecT const& exec, Extents... extents)
      : extents_{static_cast<index_t>(extents)...},
        memory_(exec, detail::tensor_bytes(sizeof(T), extents_.begin(), Rank))
  {
  }
  Tensor(Tensor&& other) noexcept
      : extents_{std::exchange(other.extents_, {})}, memory_{std::move(other.memory_)}
  {
  }
  Tensor& operator=(Tensor&& other) noexcept
  {
    if (this != &other) {
      extents_ = std::exchange(other.extents_, {});
      memory_  = std::move(other.memory_);
    }
    return *this;
  }
  Tensor(Tensor const&)            = delete;
  Tensor& operator=(Tensor const&) = delete;
  ~Tensor()                        = default;

  [[nodiscard]] View<T, Rank, ExecT> view() { return {data(), extents_}; }
  [[nodiscard]] View<T const, Rank, ExecT> view() const { return {data(), extents_}; }
  [[nodiscard]] View<T const, Rank, ExecT> const_view() const { return {data(), extents_}; }
  [[nodiscard]] index_t extent(int r) const { return extents_[r]; }
  [[nodiscard]] std::size_t bytes() const { return memory_.bytes(); }

 private:
  [[nodiscard]] T* data() const { return static_cast<T*>(memory_.data()); }

  Array<index_t, Rank> extents_{};
  detail::Memory<ExecT> memory_;
};

}  // namespace moe
