// The GPU tests' main: without a GPU they are skipped (CTest's SKIP_RETURN_CODE is 77).
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include <cuda_runtime.h>

int main(int argc, char** argv)
{
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("skipped: no CUDA driver or no GPU");
    return 77;
  }
  return doctest::Context(argc, argv).run();
}
