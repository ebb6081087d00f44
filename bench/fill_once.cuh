#pragma once
// Memory that is filled with numbers when it comes from the driver, and that a tensor of as many
// bytes gets again: what nobody writes is finite, and a product's operands are not all zero, which
// would let a GPU run faster.
#include <map>
#include <utility>
#include <vector>

#include <moe/moe.cuh>

#include "data.hpp"

namespace moe_bench {

static __global__ void fill_once_kernel(moe::BFloat16* to, index_t n)
{
  index_t const step = index_t{blockDim.x} * gridDim.x;
  for (index_t i = index_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    to[i] = static_cast<moe::BFloat16>(uniform(7, i));
  }
}

class FillOnce final : public moe::CudaResource {
 public:
  explicit FillOnce(int device) : pool_{device} {}
  FillOnce(FillOnce const&)            = delete;
  FillOnce& operator=(FillOnce const&) = delete;
  // After the last handle on it.
  ~FillOnce() override
  {
    for (auto const& [kind, blocks] : free_) {
      for (void* const p : blocks) {
        pool_.deallocate(p, kind.first, nullptr);
      }
    }
    (void)cudaDeviceSynchronize();
  }

  void* allocate(std::size_t bytes, cudaStream_t stream) override
  {
    auto& blocks = free_[{bytes, stream}];
    if (!blocks.empty()) {
      void* const p = blocks.back();
      blocks.pop_back();
      return p;
    }
    void* const p = pool_.allocate(bytes, stream);
    auto const n  = static_cast<index_t>(bytes / sizeof(moe::BFloat16));
    if (n > 0) {
      fill_once_kernel<<<1024, 256, 0, stream>>>(static_cast<moe::BFloat16*>(p), n);
      MOE_CUDA_TRY(cudaGetLastError());
    }
    return p;
  }
  void deallocate(void* p, std::size_t bytes, cudaStream_t stream) noexcept override
  {
    free_[{bytes, stream}].push_back(p);
  }
  [[nodiscard]] bool capturable() const noexcept override { return false; }

 private:
  moe::CudaPool pool_;
  std::map<std::pair<std::size_t, cudaStream_t>, std::vector<void*>> free_;
};

}  // namespace moe_bench
