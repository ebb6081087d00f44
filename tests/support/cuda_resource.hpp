#pragma once
// Cuda memory resources that count, fail and fill, over CUDA's pool.
#include <cstddef>

#include <moe/exec/cuda/resource.cuh>

namespace moe::test {

class WatchedPool final : public CudaResource {
 public:
  explicit WatchedPool(int device = 0, bool capturable = true)
      : pool_(device), capturable_{capturable}
  {
  }
  void fail_at(std::size_t k)  // counted from 1; 0: never
  {
    fail_at_ = k;
    asked_   = 0;
  }
  [[nodiscard]] std::size_t asked() const { return asked_; }
  [[nodiscard]] bool failed() const { return fail_at_ != 0 && asked_ >= fail_at_; }
  [[nodiscard]] std::size_t blocks() const { return blocks_; }

  void* allocate(std::size_t bytes, cudaStream_t stream) override
  {
    if (++asked_ == fail_at_) { throw std::bad_alloc(); }
    void* const p = pool_.allocate(bytes, stream);
    ++blocks_;
    return p;
  }
  void deallocate(void* p, std::size_t bytes, cudaStream_t stream) noexcept override
  {
    --blocks_;
    pool_.deallocate(p, bytes, stream);
  }
  [[nodiscard]] bool capturable() const noexcept override { return capturable_; }

 private:
  CudaPool pool_;
  bool capturable_;
  std::size_t fail_at_ = 0, asked_ = 0, blocks_ = 0;
};

// Memory in which every byte is `value` at first. 0xff makes every float, Half and BFloat16 a NaN
// and every id -1, so that what nobody wrote shows where it is read; 0 is what a tool that looks
// for such reads takes for written.
class FillingPool final : public CudaResource {
 public:
  explicit FillingPool(unsigned char value, int device = 0) : pool_(device), value_{value} {}

  void* allocate(std::size_t bytes, cudaStream_t stream) override
  {
    void* const p = pool_.allocate(bytes, stream);
    MOE_CUDA_TRY(cudaMemsetAsync(p, value_, bytes, stream));
    return p;
  }
  void deallocate(void* p, std::size_t bytes, cudaStream_t stream) noexcept override
  {
    pool_.deallocate(p, bytes, stream);
  }
  [[nodiscard]] bool capturable() const noexcept override { return true; }

 private:
  CudaPool pool_;
  unsigned char value_;
};

// Memory that no stream orders, for what several streams read.
class PlainMemory final : public CudaResource {
 public:
  void* allocate(std::size_t bytes, cudaStream_t) override
  {
    void* p = nullptr;
    MOE_CUDA_TRY(cudaMalloc(&p, bytes));
    return p;
  }
  void deallocate(void* p, std::size_t, cudaStream_t) noexcept override { (void)cudaFree(p); }
  [[nodiscard]] bool capturable() const noexcept override { return false; }
};

}  // namespace moe::test
