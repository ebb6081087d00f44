#pragma once
// Moments on a stream, and the times of passes between them.
#include <algorithm>
#include <cstddef>
#include <vector>

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

[[nodiscard]] inline double median(std::vector<double> times)
{
  auto const middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

// Seconds of each pass; they are queued back to back.
template <class Pass>
[[nodiscard]] std::vector<double> seconds_of(moe::Cuda const& exec, int passes, Pass const& pass)
{
  std::vector<Event> const at(static_cast<std::size_t>(2 * passes));
  for (std::size_t i = 0; i < at.size(); i += 2) {
    at[i].record(exec);
    pass();
    at[i + 1].record(exec);
  }
  std::vector<double> times;
  for (std::size_t i = 0; i < at.size(); i += 2) {
    times.push_back(at[i + 1].seconds_since(at[i]));
  }
  return times;
}

}  // namespace moe_bench
