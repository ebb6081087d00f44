#pragma once
// One GPU's access to another's memory, over NVLink or PCIe.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/error.cuh>

namespace moe::detail {

// The current device's to what cudaMalloc gave of `device`; false where the hardware has no way.
[[nodiscard]] inline bool enable_peer_access(int device)
{
  int here = 0, can = 0;
  MOE_CUDA_TRY(cudaGetDevice(&here));
  if (here == device) { return true; }
  MOE_CUDA_TRY(cudaDeviceCanAccessPeer(&can, here, device));
  if (can == 0) { return false; }
  cudaError_t const result = cudaDeviceEnablePeerAccess(device, 0);
  if (result == cudaErrorPeerAccessAlreadyEnabled) {
    (void)cudaGetLastError();
  } else {
    MOE_CUDA_TRY(result);
  }
  return true;
}

}  // namespace moe::detail
