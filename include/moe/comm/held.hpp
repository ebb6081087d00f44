#pragma once
// How what works over a communicator keeps it.
#include <concepts>
#include <memory>
#include <type_traits>

namespace moe::detail {

// One that can be copied is a handle and is copied; one that owns is referred to, and must outlive
// this.
template <class CommT>
class Held {
  static constexpr bool by_value = std::copy_constructible<CommT>;

 public:
  explicit Held(CommT const& comm)
      : comm_{[&]() -> Kept {
          if constexpr (by_value) {
            return comm;
          } else {
            return std::addressof(comm);
          }
        }()}
  {
  }
  [[nodiscard]] CommT const& get() const
  {
    if constexpr (by_value) {
      return comm_;
    } else {
      return *comm_;
    }
  }

 private:
  using Kept = std::conditional_t<by_value, CommT, CommT const*>;
  Kept comm_;
};

}  // namespace moe::detail
