#pragma once
// Memory of a known size between canaries, to see writes that miss it.
#include <cstddef>
#include <cstring>
#include <vector>

#include <moe/core/view.hpp>

namespace moe::test {

template <class T>
class Guarded {
 public:
  explicit Guarded(index_t n, T value = T{}) : n_{n}
  {
    bytes_.assign(static_cast<std::size_t>(n) * sizeof(T) + 2 * guard, canary);
    fill(value);
  }
  void fill(T value)
  {
    for (index_t i = 0; i < n_; ++i) {
      std::memcpy(data() + i, &value, sizeof(T));
    }
  }
  [[nodiscard]] T* data() { return reinterpret_cast<T*>(bytes_.data() + guard); }
  [[nodiscard]] index_t size() const { return n_; }
  [[nodiscard]] View<T, 2, Host> view(index_t columns)
  {
    return View<T, 2, Host>(data(), columns == 0 ? 0 : n_ / columns, columns);
  }
  [[nodiscard]] std::vector<T> values() { return std::vector<T>(data(), data() + n_); }
  // Whether nobody wrote beside it.
  [[nodiscard]] bool whole() const
  {
    for (std::size_t i = 0; i < guard; ++i) {
      if (bytes_[i] != canary || bytes_[bytes_.size() - 1 - i] != canary) { return false; }
    }
    return true;
  }

 private:
  static constexpr std::size_t guard    = 1024;
  static constexpr unsigned char canary = 0xa5;
  index_t n_;
  std::vector<unsigned char> bytes_;
};

}  // namespace moe::test
