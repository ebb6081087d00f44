#pragma once
// What main.cu and the tests of ranks on GPUs tell each other (rank_gpus.hpp).
#include <cuda_runtime.h>

namespace moe::test {

// 0 without a driver.
inline int gpus()
{
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

struct RankSeats {
  bool used   = false;  // the program has ranks that are threads
  bool spread = false;  // a GPU each, where there are as many
};
inline RankSeats rank_seats;

}  // namespace moe::test
