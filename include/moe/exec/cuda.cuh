#pragma once
// The Cuda space: one GPU, one stream, one memory resource.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <memory>
#include <new>
#include <utility>

#include <moe/core/error.hpp>
#include <moe/exec/cuda/launch.cuh>
#include <moe/exec/cuda/profiler.cuh>
#include <moe/exec/cuda/state.cuh>
#include <moe/exec/cuda/warp_team.cuh>
#include <moe/exec/execution_space.hpp>

namespace moe {

// A handle: copies share stream, memory and library handles. Work of one handle is ordered by its
// stream; use one from one thread at a time. The device is the one that is current when it is made,
// and must be current whenever the handle is used.
class Cuda {
 public:
  using team_type     = WarpTeam;
  using profiler_type = CudaProfiler;

  static constexpr bool counts_slots     = true;  // plan/cuda/fill_plan.cuh
  static constexpr bool routes_by_logits = true;  // route/cuda/route_by_logits.cuh
  static constexpr bool counts_bad_input = true;  // route/cuda/count_bad_input.cuh

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
  // Those that products may fill.
  [[nodiscard]] int multiprocessors() const { return state_->multiprocessors - spared_; }
  // This handle's stream and state, with n multiprocessors fewer for its products, at least one:
  // their blocks stay until the product is done, and what runs beside them needs a place.
  [[nodiscard]] Cuda sparing(int n) const
  {
    Cuda c    = *this;
    c.spared_ = n < state_->multiprocessors ? n : state_->multiprocessors - 1;
    return c;
  }
  // Compute capability 9.0, for which a program may have kernels of its own (sm_90a).
  [[nodiscard]] bool hopper() const { return state_->hopper; }
  [[nodiscard]] Products products() const { return own_ ? Products::own : state_->products; }
  // expert/cuda/up_activated.cuh
  [[nodiscard]] static constexpr bool activates_products() { return true; }
  // This handle's stream and state, but with the library's own products.
  [[nodiscard]] Cuda with_own_products() const
  {
    Cuda c = *this;
    c.own_ = true;
    return c;
  }
  [[nodiscard]] CudaResource& resource() const { return *state_->resource; }
  // cuBLAS on this stream.
  [[nodiscard]] cublasHandle_t cublas() const
  {
    if (state_->blas == nullptr) {  // making it asks for memory, which would break a capture
      refuse_capture("moe::Cuda::cublas",
                     "the cuBLAS handle",
                     "not made yet",
                     "made before a capture: run a step first");
    }
    return state_->cublas(stream_);
  }
  // Whether the stream is being captured into a graph.
  [[nodiscard]] bool capturing() const
  {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    MOE_CUDA_TRY(cudaStreamIsCapturing(stream_, &status));
    return status != cudaStreamCaptureStatusNone;
  }

  [[nodiscard]] void* allocate(std::size_t bytes) const
  {
    check_resource("moe::Cuda::allocate");
    try {
      void* const p = state_->resource->allocate(bytes, stream_);
      if (recorder_ != nullptr) { recorder_->allocated(bytes); }
      return p;
    } catch (std::bad_alloc const&) {
      throw OutOfMemoryError("moe::Cuda::allocate",
                             "bytes",
                             std::to_string(bytes),
                             "what the memory resource can give");
    }
  }
  void deallocate(void* p, std::size_t bytes) const noexcept { deallocate(p, bytes, stream_); }
  void deallocate(void* p, std::size_t bytes, cudaStream_t stream) const noexcept
  {
    state_->resource->deallocate(p, bytes, stream);
    if (recorder_ != nullptr) { recorder_->deallocated(bytes); }
  }

  void copy_from_host(void* to, void const* from, std::size_t bytes) const
  {
    refuse_capture("moe::Cuda::copy_from_host",
                   "the stream",
                   "being captured into a graph",
                   "free: a replay would read the program's memory as it is then");
    copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  // These two wait for the device.
  void copy_to_host(void* to, void const* from, std::size_t bytes) const
  {
    refuse_to_wait("moe::Cuda::copy_to_host");
    // First without the copy, which could keep other threads from the driver while it waits for
    // work of theirs.
    MOE_CUDA_TRY(cudaStreamSynchronize(stream_));
    copy(to, from, bytes, cudaMemcpyDeviceToHost);
    MOE_CUDA_TRY(cudaStreamSynchronize(stream_));  // the caller reads `to` next
  }
  void synchronize() const
  {
    refuse_to_wait("moe::Cuda::synchronize");
    MOE_CUDA_TRY(cudaStreamSynchronize(stream_));
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
  // They are for what is short beside the work here, so they come first where both could run.
  [[nodiscard]] Cuda lane(int i) const
  {
    Cuda c    = *this;
    c.stream_ = state_->lane(i);
    return c;
  }
  // A lane for what is long: it comes last.
  [[nodiscard]] Cuda late_lane() const
  {
    Cuda c    = *this;
    c.stream_ = state_->late_lane();
    return c;
  }
  class Mark {
   public:
    Mark(detail::CudaState& state, cudaStream_t stream) : state_{state}, event_{state.take_event()}
    {
      MOE_CUDA_TRY(cudaEventRecord(event_, stream));
    }
    Mark(Mark&& other) noexcept : state_{other.state_}, event_{std::exchange(other.event_, nullptr)}
    {
    }
    Mark& operator=(Mark&&) = delete;
    ~Mark()
    {
      if (event_ != nullptr) { state_.give_back(event_); }
    }
    [[nodiscard]] cudaEvent_t event() const { return event_; }

   private:
    detail::CudaState& state_;
    cudaEvent_t event_;
  };
  [[nodiscard]] Mark mark() const { return Mark(*state_, stream_); }
  void wait(Mark const& m) const { MOE_CUDA_TRY(cudaStreamWaitEvent(stream_, m.event())); }

  // The same space, which tells `profiler` what it and its lanes do. What is captured into a graph
  // is left out, and so are the graph's replays.
  [[nodiscard]] Cuda with(CudaProfiler const& profiler) const
  {
    profiler.recorder()->clock.use_on(device());
    Cuda profiled      = *this;
    profiled.recorder_ = profiler.recorder();
    return profiled;
  }
  [[nodiscard]] PhaseScope<CudaProfiler::Recorder> phase(Phase p) const
  {
    return {recorder_.get(), p, stream_};
  }
  void count_sent(std::size_t bytes) const noexcept
  {
    if (recorder_ != nullptr && recorder_->clock.runs(stream_)) { recorder_->count_sent(bytes); }
  }
  // For bytes that only the device knows; null where nobody counts.
  [[nodiscard]] std::uint64_t* sent_there() const noexcept
  {
    return recorder_ != nullptr && recorder_->clock.runs(stream_) ? recorder_->sent_there()
                                                                  : nullptr;
  }

  // Before any work: an error that somebody's earlier call left pending, another current device,
  // and a capture that the memory resource would break are refused.
  void enter(char const* operation) const
  {
    if (state_ == nullptr) {
      throw StateError(operation, "the Cuda handle", "empty", "made, and not moved from");
    }
    cudaError_t const pending = cudaPeekAtLastError();
    if (pending != cudaSuccess) { detail::refuse_pending(pending, operation); }
    int current = 0;
    MOE_CUDA_TRY(cudaGetDevice(&current));
    if (current != device()) {
      throw StateError(
          operation,
          "the current device",
          detail::text_of(current),
          detail::joined({"the Cuda handle's (", detail::text_of(device()), "): cudaSetDevice"}));
    }
    check_resource(operation);
  }
  // Memory that a kernel of this device can be given: its own, managed or pinned. `field` in two
  // parts, as the layer's checks have it.
  void check_pointer(Check const& check, char const* kind, char const* field, void const* p) const
  {
    if (!state_->check_pointers) { return; }
    cudaPointerAttributes at{};
    MOE_CUDA_TRY(cudaPointerGetAttributes(&at, p));
    // What a graph under capture allocates is not there before it is launched.
    if (at.type == cudaMemoryTypeUnregistered && !capturing()) {
      check.fail<ValueError>(detail::joined({kind, field}),
                             "host memory",
                             "memory that the GPU can use, since its view is one of moe::Cuda");
    }
    if (at.type == cudaMemoryTypeDevice && at.device != device()) {
      check.fail<ValueError>(
          detail::joined({kind, field}),
          detail::joined({"memory of device ", detail::text_of(at.device)}),
          detail::joined({"memory of the Cuda handle's (", detail::text_of(device()), ")"}));
    }
  }

 private:
  struct nullptr_t {};
  using State = detail::CudaState;

  explicit Cuda(nullptr_t) {}
  void copy(void* to, void const* from, std::size_t bytes, cudaMemcpyKind kind) const
  {
    if (bytes > 0) { MOE_CUDA_TRY(cudaMemcpyAsync(to, from, bytes, kind, stream_)); }
  }

  // Refused before the call that would end the capture with an error: the caller's capture goes on.
  void refuse_capture(char const* operation,
                      char const* field,
                      char const* value,
                      char const* limit) const
  {
    if (capturing()) { throw StateError(operation, field, value, limit); }
  }
  void refuse_to_wait(char const* operation) const
  {
    refuse_capture(operation,
                   "the stream",
                   "being captured into a graph",
                   "free where the host waits for the device: for statistics and losses, for a "
                   "capacity that depends on loads, for SerialDispatcher's row counts on cuBLAS");
  }
  void check_resource(char const* operation) const
  {
    if (state_->resource->capturable()) { return; }
    refuse_capture(
        operation,
        "the memory resource",
        "not capturable",
        "capturable() while the stream is being captured into a graph, as moe::CudaPool");
  }

  std::shared_ptr<State> state_;
  cudaStream_t stream_ = nullptr;
  bool own_            = false;
  int spared_          = 0;
  std::shared_ptr<CudaProfiler::Recorder> recorder_;  // null: nobody listens
};
static_assert(ExecutionSpace<Cuda>);

}  // namespace moe
