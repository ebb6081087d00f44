#pragma once
// Which GPU, driver and libraries the figures are of: into the JSON's context.
#include <cstdio>
#include <string>

#include <benchmark/benchmark.h>
#include <dlfcn.h>

#include <moe/exec/cuda/error.cuh>

namespace moe_bench {

// CTest takes this sentence for a skipped test (tests/CMakeLists.txt).
inline bool has_gpu()
{
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) { return true; }
  std::puts("skipped: no CUDA driver or no GPU");
  return false;
}

// As nvidia-smi names it. The library comes with the driver, so it cannot be linked: the program
// has to start without.
inline std::string driver_version()
{
  std::string version = "unknown";
  void* const nvml    = dlopen("libnvidia-ml.so.1", RTLD_LAZY);
  if (nvml == nullptr) { return version; }
  using Init       = int (*)();
  using GetVersion = int (*)(char*, unsigned);
  auto const init  = reinterpret_cast<Init>(dlsym(nvml, "nvmlInit_v2"));
  auto const get   = reinterpret_cast<GetVersion>(dlsym(nvml, "nvmlSystemGetDriverVersion"));
  char text[96]    = {};
  bool const success =
      init != nullptr && get != nullptr && init() == 0 && get(text, sizeof(text)) == 0;
  if (success) { version = text; }
  return version;  // the library stays: what closing it would do is the driver's affair
}

inline void add_gpu_context()
{
  auto const release = [](int v) {
    return std::to_string(v / 1000) + '.' + std::to_string(v % 1000 / 10);
  };
  int device = 0, runtime = 0, driver = 0, major = 0, minor = 0, patch = 0;
  cudaDeviceProp properties{};
  MOE_CUDA_TRY(cudaGetDevice(&device));
  MOE_CUDA_TRY(cudaGetDeviceProperties(&properties, device));
  MOE_CUDA_TRY(cudaRuntimeGetVersion(&runtime));
  MOE_CUDA_TRY(cudaDriverGetVersion(&driver));
  MOE_CUBLAS_TRY(cublasGetProperty(MAJOR_VERSION, &major));
  MOE_CUBLAS_TRY(cublasGetProperty(MINOR_VERSION, &minor));
  MOE_CUBLAS_TRY(cublasGetProperty(PATCH_LEVEL, &patch));
  benchmark::AddCustomContext("gpu", properties.name);
  benchmark::AddCustomContext(
      "compute_capability",
      std::to_string(properties.major) + '.' + std::to_string(properties.minor));
  benchmark::AddCustomContext("gpu_memory_GiB", std::to_string(properties.totalGlobalMem >> 30));
  benchmark::AddCustomContext("driver", driver_version());
  benchmark::AddCustomContext("driver_cuda", release(driver));
  benchmark::AddCustomContext("cuda_runtime", release(runtime));
  benchmark::AddCustomContext(
      "cublas", std::to_string(major) + '.' + std::to_string(minor) + '.' + std::to_string(patch));
}

}  // namespace moe_bench
