#pragma once
// Memory resources that watch, limit and fail; each wraps another, so they stack.
#include <algorithm>
#include <cstddef>
#include <map>
#include <memory_resource>
#include <mutex>
#include <new>

namespace moe::test {

// Counts, and remembers every block, so that one given back with another size, another alignment or
// twice is noticed (and not passed on).
class CountingResource final : public std::pmr::memory_resource {
 public:
  explicit CountingResource(std::pmr::memory_resource* upstream = std::pmr::new_delete_resource())
      : upstream_{upstream}
  {
  }
  [[nodiscard]] std::size_t allocations() const { return locked(allocations_); }
  [[nodiscard]] std::size_t deallocations() const { return locked(deallocations_); }
  [[nodiscard]] std::size_t blocks() const { return allocations() - deallocations(); }
  [[nodiscard]] std::size_t bytes() const { return locked(bytes_); }  // now
  [[nodiscard]] std::size_t high_water() const { return locked(high_water_); }
  [[nodiscard]] std::size_t all_bytes() const { return locked(all_bytes_); }  // ever asked for
  [[nodiscard]] std::size_t mistakes() const { return locked(mistakes_); }
  void reset_high_water()
  {
    std::lock_guard const lock(mutex_);
    high_water_ = bytes_;
  }

 private:
  struct Block {
    std::size_t bytes, alignment;
    friend bool operator==(Block const&, Block const&) = default;
  };

  [[nodiscard]] std::size_t locked(std::size_t const& value) const
  {
    std::lock_guard const lock(mutex_);
    return value;
  }
  void* do_allocate(std::size_t bytes, std::size_t alignment) override
  {
    std::lock_guard const lock(mutex_);
    void* const p = upstream_->allocate(bytes, alignment);
    live_[p]      = {bytes, alignment};
    ++allocations_;
    bytes_ += bytes;
    all_bytes_ += bytes;
    high_water_ = std::max(high_water_, bytes_);
    return p;
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override
  {
    std::lock_guard const lock(mutex_);
    auto const found = live_.find(p);
    if (found == live_.end() || found->second != Block{bytes, alignment}) {
      ++mistakes_;
      return;
    }
    live_.erase(found);
    upstream_->deallocate(p, bytes, alignment);
    ++deallocations_;
    bytes_ -= bytes;
  }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override
  {
    return this == &other;
  }

  std::pmr::memory_resource* upstream_;
  mutable std::mutex mutex_;
  std::map<void*, Block> live_;
  std::size_t allocations_ = 0, deallocations_ = 0, bytes_ = 0, all_bytes_ = 0, high_water_ = 0,
              mistakes_ = 0;
};

// Throws std::bad_alloc when more than `limit` bytes would be in use.
class LimitedResource final : public std::pmr::memory_resource {
 public:
  explicit LimitedResource(std::size_t limit,
                           std::pmr::memory_resource* upstream = std::pmr::new_delete_resource())
      : upstream_{upstream}, limit_{limit}
  {
  }
  void set_limit(std::size_t limit)
  {
    std::lock_guard const lock(mutex_);
    limit_ = limit;
  }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override
  {
    std::lock_guard const lock(mutex_);
    if (used_ > limit_ || bytes > limit_ - used_) { throw std::bad_alloc(); }
    void* const p = upstream_->allocate(bytes, alignment);
    used_ += bytes;
    return p;
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override
  {
    std::lock_guard const lock(mutex_);
    upstream_->deallocate(p, bytes, alignment);
    used_ -= bytes;
  }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override
  {
    return this == &other;
  }

  std::pmr::memory_resource* upstream_;
  std::mutex mutex_;
  std::size_t limit_, used_ = 0;
};

// Throws std::bad_alloc at the k-th allocation, counted from 1 since the last fail_at(k), and only
// there; 0: never. To fail each allocation of some work in turn, raise k until failed() is false.
class FailingResource final : public std::pmr::memory_resource {
 public:
  explicit FailingResource(std::size_t k                       = 0,
                           std::pmr::memory_resource* upstream = std::pmr::new_delete_resource())
      : upstream_{upstream}, fail_at_{k}
  {
  }
  void fail_at(std::size_t k)
  {
    std::lock_guard const lock(mutex_);
    fail_at_ = k;
    asked_   = 0;
  }
  [[nodiscard]] std::size_t asked() const  // allocations since the last fail_at(k), failed or not
  {
    std::lock_guard const lock(mutex_);
    return asked_;
  }
  [[nodiscard]] bool failed() const
  {
    std::lock_guard const lock(mutex_);
    return fail_at_ != 0 && asked_ >= fail_at_;
  }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override
  {
    {
      std::lock_guard const lock(mutex_);
      if (++asked_ == fail_at_) { throw std::bad_alloc(); }
    }
    return upstream_->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override
  {
    upstream_->deallocate(p, bytes, alignment);
  }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override
  {
    return this == &other;
  }

  std::pmr::memory_resource* upstream_;
  mutable std::mutex mutex_;
  std::size_t fail_at_, asked_ = 0;
};

}  // namespace moe::test
