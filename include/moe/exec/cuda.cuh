#pragma once
// The Cuda space: one GPU, one stream, one memory resource.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <memory>
#include <new>
#include <vector>

#include <moe/core/error.hpp>
#include <moe/exec/cuda/launch.cuh>
#include <moe/exec/cuda/resource.cuh>
#include <moe/exec/cuda/warp_team.cuh>
#include <moe/exec/execution_space.hpp>

namespace moe {

struct CudaOptions {
  CudaResource* resource = nullptr;  // null: a pool of its own; the caller's must outlive it
  Products products      = Products::automatic;
};

// A handle: copies share stream, memory and library handles. Work of one handle is ordered by its
// stream; use one from one thread at a time. The device is the one that is current when it is made.
class Cuda {
 public:
  using team_type = WarpTeam;

  // On the caller's stream, or on one of its own that is ordered with the default stream.
  Cuda() : Cuda(nullptr, CudaOptions{}) {}
  explicit Cuda(cudaStream_t stream, CudaOptions options = {})
      : state_{std::make_shared<State>(options)},
        stream_{stream != nullptr ? stream : state_->own_stream()}
  {
  }
  [[nodiscard]] static Cuda none() { return Cuda(nullptr_t{}); }

  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  [[nodiscard]] int device() const { return state_->device; }
  [[nodiscard]] int multiprocessors() const { return state_->multiprocessors; }
  [[nodiscard]] Products products() const { return state_->products; }
  [[nodiscard]] CudaResource& resource() const { return *state_->resource; }
  // cuBLAS on this stream.
  [[nodiscard]] cublasHandle_t cublas() const { return state_->cublas(stream_); }

  [[nodiscard]] void* allocate(std::size_t bytes) const
  {
    try {
      return state_->resource->allocate(bytes, stream_);
    } catch (std::bad_alloc const&) {
      throw OutOfMemoryError("moe::Cuda::allocate",
                             "bytes",
                             std::to_string(bytes),
                             "what the memory resource can give");
    }
  }
  void deallocate(void* p, std::size_t bytes) const noexcept
  {
    state_->resource->deallocate(p, bytes, stream_);
  }

  void copy_from_host(void* to, void const* from, std::size_t bytes) const
  {
    copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void copy_to_host(void* to, void const* from, std::size_t bytes) const
  {
    copy(to, from, bytes, cudaMemcpyDeviceToHost);
    synchronize();  // the caller reads `to` next
  }
  void copy(void* to, void const* from, std::size_t bytes) const
  {
    copy(to, from, bytes, cudaMemcpyDeviceToDevice);
  }
  void zero(void* p, std::size_t bytes) const
  {
    if (bytes > 0) { MOE_CUDA_TRY(cudaMemsetAsync(p, 0, bytes, stream_)); }
  }

  // A warp per row.
  template <class F>
  void for_each_row(index_t rows, F const& f) const
  {
    detail::launch_rows(stream_, rows, f);
  }

  // Lanes: streams beside this one, made once; lane(i) works after a wait for a mark of this one.
  [[nodiscard]] Cuda lane(int i) const { return Cuda(state_, state_->lane(i)); }
  class Mark {
   public:
    explicit Mark(cudaStream_t stream)
    {
      MOE_CUDA_TRY(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
      MOE_CUDA_TRY(cudaEventRecord(event_, stream));
    }
    Mark(Mark const&)            = delete;
    Mark& operator=(Mark const&) = delete;
    ~Mark() { (void)cudaEventDestroy(event_); }
    [[nodiscard]] cudaEvent_t event() const { return event_; }

   private:
    cudaEvent_t event_ = nullptr;
  };
  [[nodiscard]] Mark mark() const { return Mark(stream_); }
  void wait(Mark const& m) const { MOE_CUDA_TRY(cudaStreamWaitEvent(stream_, m.event())); }
  // An error that somebody's earlier call left pending is neither taken off the record nor reported
  // as ours.
  void enter(char const* operation) const
  {
    cudaError_t const pending = cudaPeekAtLastError();
    if (pending == cudaSuccess) { return; }
    throw CudaError(operation,
                    "an error of an earlier CUDA call",
                    cudaGetErrorName(pending),
                    "handled first: cudaGetLastError() takes it off the record");
  }
  void synchronize() const { MOE_CUDA_TRY(cudaStreamSynchronize(stream_)); }

 private:
  struct nullptr_t {};
  struct State {
    explicit State(CudaOptions const& options) : products{options.products}
    {
      MOE_CUDA_TRY(cudaGetDevice(&device));
      MOE_CUDA_TRY(
          cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
      if (options.resource == nullptr) { pool = std::make_unique<CudaPool>(device); }
      resource = options.resource != nullptr ? options.resource : pool.get();
    }
    State(State const&)            = delete;
    State& operator=(State const&) = delete;
    ~State()
    {
      if (blas != nullptr) { (void)cublasDestroy(blas); }
      for (cudaStream_t const s : streams) {
        (void)cudaStreamDestroy(s);
      }
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
        lanes.push_back(own_stream());
      }
      return lanes[static_cast<std::size_t>(i)];
    }
    cublasHandle_t cublas(cudaStream_t stream)
    {
      if (blas == nullptr) { MOE_CUBLAS_TRY(cublasCreate(&blas)); }
      MOE_CUBLAS_TRY(cublasSetStream(blas, stream));
      return blas;
    }

    Products products;
    int device          = 0;
    int multiprocessors = 0;
    std::unique_ptr<CudaPool> pool;
    CudaResource* resource = nullptr;
    std::vector<cudaStream_t> streams, lanes;
    cublasHandle_t blas = nullptr;
  };

  explicit Cuda(nullptr_t) {}
  Cuda(std::shared_ptr<State> state, cudaStream_t stream)
      : state_{std::move(state)}, stream_{stream}
  {
  }
  void copy(void* to, void const* from, std::size_t bytes, cudaMemcpyKind kind) const
  {
    if (bytes > 0) { MOE_CUDA_TRY(cudaMemcpyAsync(to, from, bytes, kind, stream_)); }
  }

  std::shared_ptr<State> state_;
  cudaStream_t stream_ = nullptr;
};
static_assert(ExecutionSpace<Cuda>);

}  // namespace moe
