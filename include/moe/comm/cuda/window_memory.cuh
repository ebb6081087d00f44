#pragma once
// One rank's part of a window on Cuda.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include <moe/comm/cuda/window_kernels.cuh>
#include <moe/exec/cuda.cuh>

namespace moe::detail {

// For what cannot throw: an error of ours is taken off the runtime's record, one that loses the
// context stays for what comes later to see.
inline void window_ignore(cudaError_t result) noexcept
{
  if (result != cudaSuccess && !loses_context(result)) { (void)cudaGetLastError(); }
}

// One rank's memory, and what its waits report.
class CudaWindowMemory {
 public:
  CudaWindowMemory()                                   = default;
  CudaWindowMemory(CudaWindowMemory const&)            = delete;
  CudaWindowMemory& operator=(CudaWindowMemory const&) = delete;
  ~CudaWindowMemory() { release(); }

  // From the driver, as peers need it. This and prepare wait for the stream.
  void make(Cuda const& exec, Check const& check, WindowLayout const& layout, int ranks)
  {
    release();
    void* p                  = nullptr;
    cudaError_t const result = cudaMalloc(&p, layout.total);
    if (result == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      check.fail<OutOfMemoryError>("bytes", layout.total, "what the GPU can give");
    }
    MOE_CUDA_TRY(result);
    data_  = static_cast<std::byte*>(p);
    owned_ = true;
    prepare(exec, data_, layout, ranks);
  }
  // Zeros, before any peer can write there.
  void prepare(Cuda const& exec, std::byte* data, WindowLayout const& layout, int ranks)
  {
    data_   = data;
    layout_ = layout;
    ranks_  = ranks;
    device_ = exec.device();
    if (report_ == nullptr) {
      std::size_t const n = sizeof(WindowReport) + static_cast<std::size_t>(ranks) * 4;
      void* p             = nullptr;
      MOE_CUDA_TRY(cudaHostAlloc(&p, n, cudaHostAllocMapped | cudaHostAllocPortable));
      std::fill_n(static_cast<std::byte*>(p), n, std::byte{0});
      report_ = static_cast<WindowReport*>(p);
    }
    // Loaded now: a kernel's first launch may wait for peers' kernels that wait for it.
    cudaFuncAttributes unused{};
    MOE_CUDA_TRY(
        cudaFuncGetAttributes(&unused, window_signal_kernel<window_tuning.signal_threads>));
    MOE_CUDA_TRY(cudaFuncGetAttributes(&unused, window_wait_kernel<window_tuning.wait_threads>));
    exec.zero(data_, layout.total);
    exec.synchronize();
  }
  // memory (P), known to the host. Waits for the stream, which reads it.
  void point(Cuda const& exec, std::vector<std::byte*> const& memory) const
  {
    exec.copy_from_host(
        data_ + layout_.pointers, memory.data(), memory.size() * sizeof(std::byte*));
    exec.synchronize();
  }
  [[nodiscard]] WindowKernelArguments arguments(int rank, std::chrono::milliseconds deadline) const
  {
    void* report = nullptr;
    MOE_CUDA_TRY(cudaHostGetDevicePointer(&report, report_, 0));
    return {.memory      = reinterpret_cast<std::byte* const*>(data_ + layout_.pointers),
            .flags       = reinterpret_cast<std::uint64_t*>(data_ + layout_.flags),
            .counts      = reinterpret_cast<std::uint64_t*>(data_ + layout_.counts),
            .blocks      = reinterpret_cast<std::uint32_t*>(data_ + layout_.blocks),
            .status      = reinterpret_cast<std::uint32_t*>(data_ + layout_.status),
            .report      = static_cast<WindowReport*>(report),
            .flags_at    = layout_.flags,
            .nanoseconds = static_cast<unsigned long long>(deadline.count()) * 1'000'000ULL,
            .rank        = rank,
            .size        = ranks_};
  }
  void release() noexcept
  {
    if (owned_) { window_ignore(cudaFree(data_)); }
    if (report_ != nullptr) { window_ignore(cudaFreeHost(report_)); }
    keep();
  }
  // Left to the process: a peer may write there for as long as it lives.
  void keep() noexcept
  {
    data_   = nullptr;
    report_ = nullptr;
    owned_  = false;
  }

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] int device() const { return device_; }
  [[nodiscard]] WindowReport* report() const { return report_; }
  [[nodiscard]] std::uint32_t* stop_word() const
  {
    return report_ != nullptr ? &report_->stop : nullptr;
  }

 private:
  std::byte* data_ = nullptr;
  bool owned_      = false;
  WindowLayout layout_;
  int ranks_ = 1, device_ = -1;
  WindowReport* report_ = nullptr;
};

}  // namespace moe::detail
