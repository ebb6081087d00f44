#pragma once
// What the CUDA runtime and its libraries report, as typed errors.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <moe/core/error.hpp>

// Each shared library has its own: another may have the same kernel for other architectures.
#define MOE_HIDDEN __attribute__((visibility("hidden")))

namespace moe {

struct CudaError : Error {  // a call of the CUDA runtime, of cuBLAS or of CUB that failed
  using Error::Error;
};

namespace detail {

// Errors of a kernel that went wrong: the process's context is lost and every later call returns
// the same one again.
inline bool loses_context(cudaError_t result)
{
  switch (result) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorECCUncorrectable:
      return true;
    default:
      return false;
  }
}

// "8.0, 9.0": the compute capabilities that this program's kernels were compiled for.
inline MOE_HIDDEN std::string built_for()
{
  std::string all;
  for (int const arch : {__CUDA_ARCH_LIST__}) {
    all = joined({all, all.empty() ? "" : ", ", text_of(arch / 100), ".", text_of(arch / 10 % 10)});
  }
  return all;
}
inline std::string capability_of_current_device()
{
  int device = 0, major = 0, minor = 0;
  (void)cudaGetDevice(&device);
  (void)cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  (void)cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  return joined({text_of(major), ".", text_of(minor)});
}
inline std::string cuda_version(int v)
{
  return joined({text_of(v / 1000), ".", text_of(v % 1000 / 10)});
}

[[noreturn, gnu::noinline, gnu::cold]] inline MOE_HIDDEN void cuda_failed(cudaError_t result,
                                                                          char const* call)
{
  if (!loses_context(result)) { (void)cudaGetLastError(); }  // the exception reports it
  char const* const name = cudaGetErrorName(result);
  switch (result) {
    case cudaErrorMemoryAllocation:
      throw OutOfMemoryError(call, "allocation", name, "what the memory resource can give");
    case cudaErrorNoDevice:
      throw CudaError(
          call, "the GPU", joined({"absent (", name, ")"}), "there: moe::Host works without");
    case cudaErrorInsufficientDriver:
    case cudaErrorUnsupportedPtxVersion: {
      int driver = 0;
      (void)cudaDriverGetVersion(&driver);
      throw CudaError(
          call,
          "the CUDA driver",
          driver == 0 ? joined({"absent (", name, ")"})
                      : joined({"for CUDA ", cuda_version(driver)}),
          joined(
              {"installed, for CUDA ", cuda_version(CUDART_VERSION), ": moe::Host works without"}));
    }
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
      throw CudaError(call,
                      "the list of architectures that this program was built for",
                      built_for(),
                      joined({"one with this GPU's (",
                              capability_of_current_device(),
                              "): set CMAKE_CUDA_ARCHITECTURES, or nvcc's -gencode"}));
    default:
      break;
  }
  throw CudaError(call,
                  "result",
                  joined({name, ", ", cudaGetErrorString(result)}),
                  loses_context(result)
                      ? "cudaSuccess: a kernel failed, and this process cannot use its GPU any "
                        "more; compute-sanitizer tells which kernel"
                      : "cudaSuccess");
}

// Launches report through their return value, so an error that was pending before is not read here.
// Our own is taken off the runtime's record, since it is reported by the exception; one that loses
// the context stays, for what comes later to see.
inline MOE_HIDDEN void cuda_try(cudaError_t result, char const* call)
{
  if (result != cudaSuccess) { cuda_failed(result, call); }
}

// For what cannot throw: an error of ours is taken off the runtime's record, one that loses the
// context stays for what comes later to see.
inline void cuda_ignore(cudaError_t result) noexcept
{
  if (result != cudaSuccess && !loses_context(result)) { (void)cudaGetLastError(); }
}

// An error that somebody's earlier call left pending is neither taken off the record nor reported
// as this operation's.
[[gnu::noinline, gnu::cold]] inline void refuse_pending(cudaError_t pending, char const* operation)
{
  throw CudaError(operation,
                  "an error of an earlier CUDA call",
                  cudaGetErrorName(pending),
                  loses_context(pending)
                      ? "none: a kernel failed, and this process cannot use its GPU any more; "
                        "compute-sanitizer tells which kernel"
                      : "handled first: cudaGetLastError() takes it off the record");
}

// cuBLAS has names of its own for what is the context's error: that one comes first.
inline MOE_HIDDEN void cublas_try(cublasStatus_t status, char const* call)
{
  if (status == CUBLAS_STATUS_SUCCESS) { return; }
  cudaError_t const cause = cudaPeekAtLastError();
  if (loses_context(cause)) { cuda_failed(cause, call); }
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
