#pragma once
// The space that a file is compiled for: Host, or Cuda where nvcc compiles it. A file whose second
// line says "On every space" is compiled once for each (../CMakeLists.txt), so all devices run the
// same source.
#if defined(__CUDACC__)
#include <moe/moe.cuh>
#else
#include <moe/moe.hpp>
#endif

namespace train_lm {

#if defined(__CUDACC__)
using Space = moe::Cuda;
#else
using Space = moe::Host;
#endif

}  // namespace train_lm
