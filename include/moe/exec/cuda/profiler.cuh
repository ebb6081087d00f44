#pragma once
// The profiler of the Cuda space: events in the streams, read when their work is done.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <nvtx3/nvToolsExt.h>

#include <cstdint>
#include <new>
#include <vector>

#include <moe/exec/cuda/error.cuh>
#include <moe/exec/profiler.hpp>

namespace moe {
namespace detail {

// A moment is a timing event in a stream. A stream under capture has none: the event would be the
// graph's, of whichever replay was the last.
class CudaClock {
 public:
  using Track = cudaStream_t;
  using Stamp = cudaEvent_t;

  explicit CudaClock(ProfilerOptions const& options) : nvtx_{options.nvtx} {}
  CudaClock(CudaClock const&)            = delete;
  CudaClock& operator=(CudaClock const&) = delete;
  ~CudaClock()
  {
    if (counter_ != nullptr) { cuda_ignore(cudaFreeHost(counter_)); }
    for (cudaEvent_t const e : events_) {
      cuda_ignore(cudaEventDestroy(e));
    }
  }

  // Events belong to a device.
  void use_on(int device)
  {
    if (device_ >= 0 && device != device_) {
      throw StateError("moe::Cuda::with",
                       "the handle's device",
                       text_of(device),
                       joined({"that of the profiler's other handles (", text_of(device_), ")"}));
    }
    device_ = device;
    if (counter_ == nullptr) {
      void* p = nullptr;
      MOE_CUDA_TRY(
          cudaHostAlloc(&p, sizeof(std::uint64_t), cudaHostAllocMapped | cudaHostAllocPortable));
      counter_ = ::new (p) std::uint64_t{0};
    }
  }
  // In memory of the host, so that reading it waits for nothing.
  [[nodiscard]] std::uint64_t* counter() const { return counter_; }
  [[nodiscard]] std::uint64_t counted() const
  {
    return counter_ == nullptr ? 0 : *static_cast<std::uint64_t const volatile*>(counter_);
  }
  // How many were ever made.
  [[nodiscard]] std::size_t events() const { return events_.size(); }

  Stamp make()
  {
    if (!free_.empty()) {
      cudaEvent_t const e = free_.back();
      free_.pop_back();
      return e;
    }
    events_.push_back(nullptr);
    free_.reserve(events_.capacity());  // so that give_back() asks for nothing
    cudaEvent_t e            = nullptr;
    cudaError_t const result = cudaEventCreate(&e);
    if (result != cudaSuccess) { events_.pop_back(); }
    cuda_try(result, "cudaEventCreate(&e)");
    return events_.back() = e;
  }
  void give_back(Stamp e) { free_.push_back(e); }

  [[nodiscard]] static bool runs(Track stream) noexcept
  {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaError_t const result       = cudaStreamIsCapturing(stream, &status);
    cuda_ignore(result);
    return result == cudaSuccess && status == cudaStreamCaptureStatusNone;
  }
  static bool mark(Stamp const& e, Track stream) noexcept
  {
    cudaError_t const result = cudaEventRecord(e, stream);
    cuda_ignore(result);
    return result == cudaSuccess;
  }
  [[nodiscard]] static bool passed(Stamp e)
  {
    BesideCaptures const beside;
    cudaError_t const result = cudaEventQuery(e);
    if (result != cudaErrorNotReady) {
      MOE_CUDA_TRY(result);
      return true;
    }
    // No error, though some versions of the runtime record it as one.
    if (cudaPeekAtLastError() == cudaErrorNotReady) { (void)cudaGetLastError(); }
    return false;
  }
  static void wait(Stamp e)
  {
    BesideCaptures const beside;
    MOE_CUDA_TRY(cudaEventSynchronize(e));
  }
  [[nodiscard]] static double ms(Stamp from, Stamp to)
  {
    BesideCaptures const beside;
    float elapsed = 0;
    MOE_CUDA_TRY(cudaEventElapsedTime(&elapsed, from, to));
    return static_cast<double>(elapsed);
  }

  void push(Phase phase) const noexcept
  {
    constexpr char const* names[all_phases] = {"moe router",
                                               "moe plan",
                                               "moe dispatch",
                                               "moe communication",
                                               "moe experts",
                                               "moe combine",
                                               "moe shared expert",
                                               "moe losses",
                                               "moe forward",
                                               "moe backward",
                                               "moe evaluate"};
    if (nvtx_) { (void)nvtxRangePushA(names[static_cast<int>(phase)]); }
  }
  void pop() const noexcept
  {
    if (nvtx_) { (void)nvtxRangePop(); }
  }

 private:
  // Lets this thread read events of work that was not captured while some stream is being captured,
  // which would end that capture otherwise.
  class BesideCaptures {
   public:
    BesideCaptures() { cuda_ignore(cudaThreadExchangeStreamCaptureMode(&mode_)); }
    BesideCaptures(BesideCaptures const&)            = delete;
    BesideCaptures& operator=(BesideCaptures const&) = delete;
    ~BesideCaptures() { cuda_ignore(cudaThreadExchangeStreamCaptureMode(&mode_)); }

   private:
    cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
  };

  bool nvtx_;
  int device_             = -1;  // none yet
  std::uint64_t* counter_ = nullptr;
  std::vector<cudaEvent_t> events_, free_;
};

}  // namespace detail

using CudaProfiler = Profiler<detail::CudaClock>;

}  // namespace moe
