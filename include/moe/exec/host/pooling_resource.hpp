#pragma once
// Host memory that is kept for the next request of its size, so that a training loop in its steady
// state asks the system for nothing.
#include <bit>
#include <cstddef>
#include <limits>
#include <memory_resource>
#include <mutex>
#include <new>
#include <utility>

namespace moe {

// Rounds a request up to one of four sizes per power of two (at most a quarter is lost) and keeps
// what is returned in a list of its size. Blocks go back to `upstream` on release(), when upstream
// has no more for a block of another size, and at the end.
class PoolingResource final : public std::pmr::memory_resource {
 public:
  explicit PoolingResource(std::pmr::memory_resource* upstream = std::pmr::new_delete_resource())
      : upstream_{upstream}
  {
  }
  PoolingResource(PoolingResource const&)            = delete;
  PoolingResource& operator=(PoolingResource const&) = delete;
  ~PoolingResource() override { release(); }

  // Gives back everything that is not in use.
  void release() noexcept
  {
    std::lock_guard const lock(mutex_);
    release_free();
  }

  static constexpr std::size_t alignment = 256;

  static constexpr std::size_t rounded(std::size_t bytes)
  {
    std::size_t step = 64;
    while (step * 8 < bytes) {
      step *= 2;
    }
    return (bytes + step - 1) / step * step;
  }

 private:
  // A block that is not in use, itself a link of its size's list: so keeping one takes no memory.
  struct Free {
    Free* next;
  };

  // Of a rounded size: the number of its leading bit and the two bits after it.
  static constexpr std::size_t list_of(std::size_t size)
  {
    auto const leading = static_cast<std::size_t>(std::bit_width(size)) - 1;
    return leading * 4 + (size >> (leading - 2)) % 4;
  }
  static constexpr std::size_t size_of(std::size_t list)
  {
    return (4 + list % 4) << (list / 4 - 2);
  }

  bool release_free() noexcept  // whether there was anything
  {
    bool any = false;
    for (std::size_t list = 0; list < lists; ++list) {
      while (free_[list] != nullptr) {
        Free* const block = std::exchange(free_[list], free_[list]->next);
        upstream_->deallocate(block, size_of(list), alignment);
        any = true;
      }
    }
    return any;
  }

  void* do_allocate(std::size_t bytes, std::size_t align) override
  {
    if (bytes > std::numeric_limits<std::ptrdiff_t>::max()) { throw std::bad_alloc(); }
    if (align > alignment) { return upstream_->allocate(bytes, align); }  // not pooled
    std::size_t const size = rounded(bytes);
    std::lock_guard const lock(mutex_);
    Free*& head = free_[list_of(size)];
    if (head != nullptr) { return std::exchange(head, head->next); }
    try {
      return upstream_->allocate(size, alignment);
    } catch (std::bad_alloc const&) {
      if (!release_free()) { throw; }
      return upstream_->allocate(size, alignment);
    }
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t align) override
  {
    if (align > alignment) { return upstream_->deallocate(p, bytes, align); }
    std::lock_guard const lock(mutex_);
    Free*& head = free_[list_of(rounded(bytes))];
    head        = ::new (p) Free{head};
  }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override
  {
    return this == &other;
  }

  static constexpr std::size_t lists = 64 * 4;

  std::pmr::memory_resource* upstream_;
  std::mutex mutex_;
  Free* free_[lists] = {};
};

}  // namespace moe
