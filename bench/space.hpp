#pragma once
// The space that a benchmark runs in: the same number of threads on every machine, and memory that
// is counted.
#include <atomic>
#include <cstddef>
#include <memory_resource>

#include <moe/exec/host.hpp>

namespace moe_bench {

inline constexpr int threads = 2;

class CountingResource final : public std::pmr::memory_resource {
 public:
  [[nodiscard]] std::size_t in_use() const { return in_use_; }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override
  {
    void* const p = pool_.allocate(bytes, alignment);
    in_use_ += bytes;
    return p;
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override
  {
    pool_.deallocate(p, bytes, alignment);
    in_use_ -= bytes;
  }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override
  {
    return this == &other;
  }

  moe::PoolingResource pool_;
  std::atomic<std::size_t> in_use_{0};
};

template <class ExecT>
class Space;

template <>
class Space<moe::Host> {
 public:
  explicit Space(moe::Products products = moe::Products::automatic)
      : exec_{{.threads = threads, .resource = &memory_, .products = products}}
  {
  }
  [[nodiscard]] moe::Host const& exec() const { return exec_; }
  [[nodiscard]] std::size_t bytes_in_use() const { return memory_.in_use(); }

 private:
  CountingResource memory_;
  moe::Host exec_;
};

}  // namespace moe_bench
