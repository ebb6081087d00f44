#pragma once
// Host memory that is kept for the next request of its size, so that a training loop in its steady
// state asks the system for nothing.
#include <cstddef>
#include <limits>
#include <map>
#include <memory_resource>
#include <mutex>
#include <new>
#include <vector>

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
  bool release_free() noexcept  // whether there was anything
  {
    bool any = false;
    for (auto& [bytes, list] : free_) {
      for (void* p : list.blocks) {
        upstream_->deallocate(p, bytes, alignment);
      }
      any = any || !list.blocks.empty();
      list.made -= list.blocks.size();
      list.blocks.clear();
    }
    return any;
  }

  void* do_allocate(std::size_t bytes, std::size_t align) override
  {
    if (bytes > std::numeric_limits<std::ptrdiff_t>::max()) { throw std::bad_alloc(); }
    if (align > alignment) { return upstream_->allocate(bytes, align); }  // not pooled
    std::size_t const size = rounded(bytes);
    std::lock_guard const lock(mutex_);
    auto& list = free_[size];
    if (!list.blocks.empty()) {
      void* const p = list.blocks.back();
      list.blocks.pop_back();
      return p;
    }
    list.blocks.reserve(list.made + 1);  // so that taking a block back cannot throw
    void* p = nullptr;
    try {
      p = upstream_->allocate(size, alignment);
    } catch (std::bad_alloc const&) {
      if (!release_free()) { throw; }
      p = upstream_->allocate(size, alignment);
    }
    ++list.made;
    return p;
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t align) override
  {
    if (align > alignment) { return upstream_->deallocate(p, bytes, align); }
    std::lock_guard const lock(mutex_);
    free_[rounded(bytes)].blocks.push_back(p);
  }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override
  {
    return this == &other;
  }

  struct List {
    std::vector<void*> blocks;
    std::size_t made = 0;  // blocks of this size that exist, free or in use
  };

  std::pmr::memory_resource* upstream_;
  std::mutex mutex_;
  std::map<std::size_t, List> free_;
};

}  // namespace moe
