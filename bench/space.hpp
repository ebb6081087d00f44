#pragma once
// The space that a benchmark runs in: Host, or Cuda where nvcc compiles it (CMakeLists.txt has
// every benchmark compiled once for each). The same number of threads on every machine, and memory
// that is counted.
#include <atomic>
#include <cstddef>
#include <memory_resource>

#if defined(__CUDACC__)
#include <moe/moe.cuh>
#else
#include <moe/moe.hpp>
#endif

namespace moe_bench {

#if defined(__CUDACC__)
using moe::Cuda;
using BenchSpace = Cuda;
#else
using moe::Host;
using BenchSpace = Host;
#endif

inline constexpr int threads = 2;  // of Host

template <class ExecT>
class Space;

#if defined(__CUDACC__)

class CountingPool final : public moe::CudaResource {
 public:
  explicit CountingPool(int device) : pool_{device} {}
  [[nodiscard]] std::size_t in_use() const { return in_use_; }

  void* allocate(std::size_t bytes, cudaStream_t stream) override
  {
    void* const p = pool_.allocate(bytes, stream);
    in_use_ += bytes;
    return p;
  }
  void deallocate(void* p, std::size_t bytes, cudaStream_t stream) noexcept override
  {
    pool_.deallocate(p, bytes, stream);
    in_use_ -= bytes;
  }
  [[nodiscard]] bool capturable() const noexcept override { return true; }

 private:
  moe::CudaPool pool_;
  std::size_t in_use_ = 0;
};

template <>
class Space<moe::Cuda> {
 public:
  explicit Space(moe::Products products = moe::Products::automatic)
      : memory_{0}, exec_{nullptr, {.resource = &memory_, .products = products}}
  {
  }
  Space(Space const&)            = delete;
  Space& operator=(Space const&) = delete;
  // Waits, so that the next benchmark finds the GPU's memory free.
  ~Space() { (void)cudaStreamSynchronize(exec_.stream()); }

  [[nodiscard]] moe::Cuda const& exec() const { return exec_; }
  [[nodiscard]] std::size_t bytes_in_use() const { return memory_.in_use(); }

 private:
  CountingPool memory_;
  moe::Cuda exec_;
};

#else

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

#endif

}  // namespace moe_bench
