#pragma once
// Ranks that share a GPU and wait for one another on it: their streams must not share hardware
// queues, and no kernel may be loaded while another waits (comm/cuda/window.cuh). Set before main,
// so before CUDA is used.
#include <cstdlib>

namespace moe::test {

inline bool const shared_gpu = setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0 &&
                               setenv("CUDA_MODULE_LOADING", "EAGER", 0) == 0;

}  // namespace moe::test
