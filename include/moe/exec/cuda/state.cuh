#pragma once
// What the copies of a Cuda handle share: the device, its memory resource, streams and cuBLAS.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <memory>
#include <vector>

#include <moe/exec/cuda/error.cuh>
#include <moe/exec/cuda/resource.cuh>
#include <moe/exec/execution_space.hpp>

namespace moe {

struct CudaOptions {
  CudaResource* resource = nullptr;  // null: a pool of its own; the caller's must outlive it
  Products products      = Products::automatic;
  // The layer's entries ask the driver whose memory each argument names, a query each; without, a
  // wrong pointer is an illegal access in some kernel, which loses the process's context.
  bool check_pointers = true;
};

namespace detail {

struct CudaState {
  explicit CudaState(CudaOptions const& options)
      : products{options.products}, check_pointers{options.check_pointers}
  {
    MOE_CUDA_TRY(cudaGetDevice(&device));
    MOE_CUDA_TRY(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
    int major = 0, minor = 0;
    MOE_CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    MOE_CUDA_TRY(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    hopper = major == 9 && minor == 0;
    if (options.resource == nullptr) { pool = std::make_unique<CudaPool>(device); }
    resource = options.resource != nullptr ? options.resource : pool.get();
  }
  CudaState(CudaState const&)            = delete;
  CudaState& operator=(CudaState const&) = delete;
  // By whichever thread lets the last copy go, perhaps one of another device.
  ~CudaState()
  {
    int current = device;
    cuda_ignore(cudaGetDevice(&current));
    if (current != device) { cuda_ignore(cudaSetDevice(device)); }
    if (blas != nullptr) { (void)cublasDestroy(blas); }
    for (cudaStream_t const s : streams) {
      (void)cudaStreamDestroy(s);
    }
    for (cudaEvent_t const e : events) {
      (void)cudaEventDestroy(e);
    }
    if (current != device) { cuda_ignore(cudaSetDevice(current)); }
  }
  cudaStream_t own_stream()
  {
    cudaStream_t s = nullptr;
    streams.reserve(streams.size() + 1);
    MOE_CUDA_TRY(cudaStreamCreate(&s));  // ordered with the legacy default stream
    streams.push_back(s);
    return s;
  }
  cudaStream_t lane(int i)
  {
    while (lanes.size() <= static_cast<std::size_t>(i)) {
      lanes.reserve(lanes.size() + 1);
      lanes.push_back(make_lane(/*first*/ true));
    }
    return lanes[static_cast<std::size_t>(i)];
  }
  cudaStream_t late_lane()
  {
    if (late == nullptr) { late = make_lane(/*first*/ false); }
    return late;
  }
  cudaStream_t make_lane(bool first)
  {
    int least = 0, most = 0;
    MOE_CUDA_TRY(cudaDeviceGetStreamPriorityRange(&least, &most));
    while (free_events.size() < 8 && events.size() < 8) {
      make_event();
    }
    cudaStream_t s = nullptr;
    streams.reserve(streams.size() + 1);
    MOE_CUDA_TRY(cudaStreamCreateWithPriority(&s, cudaStreamDefault, first ? most : least));
    streams.push_back(s);
    return s;
  }
  // Events that are recorded again and again: a step in its steady state makes none, which the
  // driver may let wait for what runs, such as a wait for a peer that shares the GPU.
  void make_event()
  {
    cudaEvent_t e = nullptr;
    events.reserve(events.size() + 1);
    free_events.reserve(events.capacity());  // so that giving back asks for nothing
    MOE_CUDA_TRY(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    events.push_back(e);
    free_events.push_back(e);
  }
  [[nodiscard]] cudaEvent_t take_event()
  {
    if (free_events.empty()) { make_event(); }
    cudaEvent_t const e = free_events.back();
    free_events.pop_back();
    return e;
  }
  void give_back(cudaEvent_t e) noexcept { free_events.push_back(e); }
  cublasHandle_t cublas(cudaStream_t stream)
  {
    if (blas == nullptr) { MOE_CUBLAS_TRY(cublasCreate(&blas)); }
    MOE_CUBLAS_TRY(cublasSetStream(blas, stream));
    return blas;
  }

  Products products;
  bool check_pointers;
  int device          = 0;
  int multiprocessors = 0;
  bool hopper         = false;
  std::unique_ptr<CudaPool> pool;
  CudaResource* resource = nullptr;
  std::vector<cudaStream_t> streams, lanes;
  cudaStream_t late = nullptr;
  std::vector<cudaEvent_t> events, free_events;
  cublasHandle_t blas = nullptr;
};

}  // namespace detail
}  // namespace moe
