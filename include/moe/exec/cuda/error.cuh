#pragma once
// What the CUDA runtime and its libraries report, as typed errors.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <moe/core/error.hpp>

namespace moe {

struct CudaError : Error {  // a call of the CUDA runtime, of cuBLAS or of CUB that failed
  using Error::Error;
};

namespace detail {

// Launches report through their return value, so an error that was pending before is not read here.
// Our own is taken off the runtime's record, since it is reported by the exception.
inline void cuda_try(cudaError_t result, char const* call)
{
  if (result == cudaSuccess) { return; }
  (void)cudaGetLastError();
  std::string const name = cudaGetErrorName(result), text = cudaGetErrorString(result);
  if (result == cudaErrorMemoryAllocation) {
    throw OutOfMemoryError(call, "allocation", name, "what the memory resource can give");
  }
  if (result == cudaErrorInsufficientDriver || result == cudaErrorNoDevice) {
    throw CudaError(call,
                    "the CUDA driver",
                    "absent (" + name + ")",
                    "installed, with a GPU: moe::Host works without");
  }
  if (result == cudaErrorNoKernelImageForDevice || result == cudaErrorInvalidDeviceFunction) {
    throw CudaError(call,
                    "the program's list of architectures",
                    "without this GPU's",
                    "one that has it: set CMAKE_CUDA_ARCHITECTURES, or nvcc's -gencode");
  }
  throw CudaError(call, "result", name + ", " + text, "cudaSuccess");
}

inline void cublas_try(cublasStatus_t status, char const* call)
{
  if (status == CUBLAS_STATUS_SUCCESS) { return; }
  if (status == CUBLAS_STATUS_ALLOC_FAILED) {
    throw OutOfMemoryError(
        call, "allocation", cublasGetStatusName(status), "what the GPU can give");
  }
  throw CudaError(call, "result", cublasGetStatusName(status), "CUBLAS_STATUS_SUCCESS");
}

}  // namespace detail
}  // namespace moe

#define MOE_CUDA_TRY(call) ::moe::detail::cuda_try((call), #call)
#define MOE_CUBLAS_TRY(call) ::moe::detail::cublas_try((call), #call)
