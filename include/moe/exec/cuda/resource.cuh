#pragma once
// Where a Cuda space's memory comes from.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstddef>
#include <cstdint>

#include <moe/exec/cuda/error.cuh>

namespace moe {

// Memory in stream order. allocate throws std::bad_alloc or OutOfMemoryError when there is no more.
// Between ranks that are threads with a GPU each, copies go from GPU to GPU if the others have
// access to it (cudaMemPoolSetAccess before the first allocation, or cudaDeviceEnablePeerAccess for
// what cudaMalloc gives), else through the host.
// `capturable`: both calls may be made while their stream is being captured into a graph.
class CudaResource {
 public:
  virtual ~CudaResource()                                                           = default;
  [[nodiscard]] virtual void* allocate(std::size_t bytes, cudaStream_t stream)      = 0;
  virtual void deallocate(void* p, std::size_t bytes, cudaStream_t stream) noexcept = 0;
  [[nodiscard]] virtual bool capturable() const noexcept                            = 0;
};

// CUDA's stream-ordered pool, which keeps what is returned: a training loop in its steady state
// asks the driver for nothing.
class CudaPool final : public CudaResource {
 public:
  explicit CudaPool(int device)
  {
    cudaMemPoolProps properties{};
    properties.allocType     = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id   = device;
    MOE_CUDA_TRY(cudaMemPoolCreate(&pool_, &properties));
    std::uint64_t keep = ~std::uint64_t{0};
    MOE_CUDA_TRY(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep));
    let_peers_in(device);
  }
  CudaPool(CudaPool const&)            = delete;
  CudaPool& operator=(CudaPool const&) = delete;
  ~CudaPool() override { (void)cudaMemPoolDestroy(pool_); }

  void* allocate(std::size_t bytes, cudaStream_t stream) override
  {
    void* p = nullptr;
    MOE_CUDA_TRY(cudaMallocFromPoolAsync(&p, bytes, pool_, stream));
    return p;
  }
  void deallocate(void* p, std::size_t, cudaStream_t stream) noexcept override
  {
    (void)cudaFreeAsync(p, stream);
  }
  [[nodiscard]] bool capturable() const noexcept override { return true; }

 private:
  // Before anything is allocated: to set it while memory is in use makes that use fail (seen on a
  // driver of version 580). Where it cannot be set, copies take the way through the host.
  void let_peers_in(int device) noexcept
  {
    int devices = 0;
    detail::cuda_ignore(cudaGetDeviceCount(&devices));
    for (int peer = 0; peer < devices; ++peer) {
      int can = 0;
      if (peer == device) { continue; }
      detail::cuda_ignore(cudaDeviceCanAccessPeer(&can, peer, device));
      cudaMemAccessDesc access{};
      access.location.type = cudaMemLocationTypeDevice;
      access.location.id   = peer;
      access.flags         = cudaMemAccessFlagsProtReadWrite;
      if (can != 0) { detail::cuda_ignore(cudaMemPoolSetAccess(pool_, &access, 1)); }
    }
  }

  cudaMemPool_t pool_ = nullptr;
};

}  // namespace moe
