#pragma once
// Owning memory of a space.
#include <cstddef>
#include <type_traits>
#include <utility>

#include <moe/core/error.hpp>
#include <moe/core/view.hpp>

namespace moe {

// Owning, uninitialised, move-only; its memory comes from and returns to `exec`, in stream order.
template <class T, int Rank, class ExecT>
class Tensor {
  static_assert(std::is_trivially_copyable_v<T>, "moe::Tensor holds trivially copyable elements");

 public:
  Tensor() = default;
  template <std::integral... Extents>
    requires(sizeof...(Extents) == Rank)
  explicit Tensor(ExecT const& exec, Extents... extents)
      : exec_{exec}, extents_{static_cast<index_t>(extents)...}, bytes_{checked_bytes()}
  {
    if (bytes_ > 0) { data_ = static_cast<T*>(exec_.allocate(bytes_)); }
  }
  Tensor(Tensor&& other) noexcept
      : exec_{other.exec_},
        extents_{std::exchange(other.extents_, {})},
        bytes_{std::exchange(other.bytes_, 0)},
        data_{std::exchange(other.data_, nullptr)}
  {
  }
  Tensor& operator=(Tensor&& other) noexcept
  {
    if (this != &other) {
      release();
      exec_    = other.exec_;
      extents_ = std::exchange(other.extents_, {});
      bytes_   = std::exchange(other.bytes_, 0);
      data_    = std::exchange(other.data_, nullptr);
    }
    return *this;
  }
  Tensor(Tensor const&)            = delete;
  Tensor& operator=(Tensor const&) = delete;
  ~Tensor() { release(); }

  [[nodiscard]] View<T, Rank, ExecT> view() { return {data_, extents_}; }
  [[nodiscard]] View<T const, Rank, ExecT> view() const { return {data_, extents_}; }
  [[nodiscard]] View<T const, Rank, ExecT> const_view() const { return {data_, extents_}; }
  [[nodiscard]] index_t extent(int r) const { return extents_[r]; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  [[nodiscard]] std::size_t checked_bytes() const
  {
    index_t n = static_cast<index_t>(sizeof(T));
    for (auto e : extents_) {
      if (e < 0) { Check{"moe::Tensor"}.fail<ShapeError>("extent", e, "at least 0"); }
    }
    for (auto e : extents_) {
      if (e == 0) { return 0; }
    }
    for (auto e : extents_) {
      n = checked_mul("moe::Tensor", "bytes", n, e);
    }
    return static_cast<std::size_t>(n);
  }
  void release() noexcept
  {
    if (data_ != nullptr) { exec_.deallocate(data_, bytes_); }
    data_ = nullptr;
  }

  ExecT exec_ = ExecT::none();  // holds no state until it owns memory
  Array<index_t, Rank> extents_{};
  std::size_t bytes_ = 0;
  T* data_           = nullptr;
};

}  // namespace moe
