#pragma once
// What ranks that are threads stage in on Cuda: memory and events, kept with their group.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstddef>
#include <cstdint>
#include <vector>

#include <moe/exec/cuda.cuh>

namespace moe::detail {

// An event that is recorded again and again; of the device that is current when it is made.
class CudaEvent {
 public:
  CudaEvent()                            = default;
  CudaEvent(CudaEvent const&)            = delete;
  CudaEvent& operator=(CudaEvent const&) = delete;
  ~CudaEvent()
  {
    if (event_ != nullptr) { cuda_ignore(cudaEventDestroy(event_)); }
  }
  void make()
  {
    if (event_ == nullptr) {
      MOE_CUDA_TRY(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
    }
  }
  [[nodiscard]] cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Memory of a space that grows, and is returned in the order of whichever stream its last user
// says.
class GrowingBytes {
 public:
  GrowingBytes()                               = default;
  GrowingBytes(GrowingBytes const&)            = delete;
  GrowingBytes& operator=(GrowingBytes const&) = delete;

  // At least `bytes`, of any content; kept for the next time.
  [[nodiscard]] std::byte* grown(Cuda const& exec, std::size_t bytes)
  {
    if (bytes > capacity_) {
      release(exec.stream());
      std::size_t const more = bytes + bytes / 4;
      data_                  = static_cast<std::byte*>(exec.allocate(more));
      owner_                 = exec;
      capacity_              = more;
    }
    return data_;
  }
  [[nodiscard]] std::byte const* data() const { return data_; }
  void release(cudaStream_t stream) noexcept
  {
    if (data_ != nullptr) { owner_.deallocate(data_, capacity_, stream); }
    data_     = nullptr;
    capacity_ = 0;
    owner_    = Cuda::none();
  }

 private:
  Cuda owner_           = Cuda::none();  // whose resource it is from
  std::byte* data_      = nullptr;
  std::size_t capacity_ = 0;
};

// Of one rank. Its owner writes it before a meeting; after it all read `device` and their half.
struct ThreadStage {
  struct Half {
    GrowingBytes bytes;
    CudaEvent staged;  // after the rank's last write to them
  };
  // At the rank's first collective; its device is then current.
  void make(Cuda const& exec, Check const& check)
  {
    if (device >= 0) {
      if (exec.device() != device) {
        check.fail<StateError>("the Cuda handle's device",
                               exec.device(),
                               joined({"that of this rank's first collective here (",
                                       text_of(device),
                                       "), where its staged bytes are"}));
      }
      return;
    }
    for (auto& half : halves) {
      half.staged.make();
    }
    done.make();
    if (release == nullptr) {
      MOE_CUDA_TRY(cudaStreamCreateWithFlags(&release, cudaStreamNonBlocking));
    }
    device = exec.device();
  }

  int device = -1;  // none yet
  Half halves[2];
  // The owner's alone.
  std::uint64_t sequence = 0;  // collectives on Cuda so far, the same on all ranks
  GrowingBytes scratch;
  CudaEvent done;                  // after the rank's part in its last collective
  cudaStream_t release = nullptr;  // on which memory is returned at the end
};

// Of all ranks of a group.
class ThreadStages {
 public:
  static constexpr char tag = 0;

  explicit ThreadStages(int ranks) : ranks_(static_cast<std::size_t>(ranks)) {}
  ThreadStages(ThreadStages const&)            = delete;
  ThreadStages& operator=(ThreadStages const&) = delete;
  // Ranks' streams may be gone by now, and may have work left that reads what is returned here: it
  // is returned on streams of its own, after all that the ranks did. No host waits.
  ~ThreadStages()
  {
    int current = 0;
    cuda_ignore(cudaGetDevice(&current));
    for (auto& mine : ranks_) {
      if (mine.device < 0) { continue; }
      cuda_ignore(cudaSetDevice(mine.device));
      for (auto const& peer : ranks_) {
        if (peer.device >= 0) { cuda_ignore(cudaStreamWaitEvent(mine.release, peer.done.get())); }
      }
      for (auto& half : mine.halves) {
        half.bytes.release(mine.release);
      }
      mine.scratch.release(mine.release);
    }
    for (auto& mine : ranks_) {
      if (mine.release != nullptr) { cuda_ignore(cudaStreamDestroy(mine.release)); }
    }
    cuda_ignore(cudaSetDevice(current));
  }

  [[nodiscard]] ThreadStage& of(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] ThreadStage const& of(int rank) const
  {
    return ranks_[static_cast<std::size_t>(rank)];
  }

 private:
  std::vector<ThreadStage> ranks_;  // (P)
};

}  // namespace moe::detail
