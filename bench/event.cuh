#pragma once
// A moment on a stream.
#include <moe/exec/cuda.cuh>

namespace moe_bench {

class Event {
 public:
  Event() { MOE_CUDA_TRY(cudaEventCreate(&event_)); }
  Event(Event const&)            = delete;
  Event& operator=(Event const&) = delete;
  ~Event() { (void)cudaEventDestroy(event_); }

  void record(moe::Cuda const& exec) const { MOE_CUDA_TRY(cudaEventRecord(event_, exec.stream())); }
  // Waits for this moment.
  [[nodiscard]] double seconds_since(Event const& start) const
  {
    float milliseconds = 0;
    MOE_CUDA_TRY(cudaEventSynchronize(event_));
    MOE_CUDA_TRY(cudaEventElapsedTime(&milliseconds, start.event_, event_));
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace moe_bench
