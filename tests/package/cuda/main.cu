// Compiles with nvcc as C++20 and starts on a machine without a GPU.
#include <cuda_runtime_api.h>

#include <concepts>

#include "../library.hpp"

int threads_of_other(moe::Host const& exec);

__global__ void store_one(int* p) { *p = 1; }

int main()
{
  static_assert(__cplusplus >= 202002L && std::same_as<int, int>);
  int version = 0;
  bool const runtime = cudaRuntimeGetVersion(&version) == cudaSuccess && version >= 12040;
  return runtime && threads_of_other(moe::Host{{.threads = 2}}) == 2 ? 0 : 1;
}
