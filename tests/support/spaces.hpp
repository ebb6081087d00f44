#pragma once
// The space that a test body runs on: Host, or Cuda where nvcc compiles it (tests/CMakeLists.txt
// compiles a test "on every space" once for each).
#if defined(__CUDACC__)
#include <moe/moe.cuh>
#else
#include <moe/moe.hpp>
#endif

#include "support/space.hpp"

namespace moe::test {

#if defined(__CUDACC__)
using TestSpace = Cuda;
inline TestSpace test_space(Products products, int /*threads*/ = 0)
{
  return Cuda(nullptr, {.products = products});
}
inline constexpr bool space_has_double      = false;
inline constexpr Products tested_products[] = {Products::own, Products::blas};
#else
using TestSpace = Host;
inline TestSpace test_space(Products products, int threads = 2)  // 0: all
{
  return Host{{.threads = threads, .products = products}};
}
inline constexpr bool space_has_double = true;
#if defined(MOE_WITH_CBLAS)
inline constexpr Products tested_products[] = {Products::own, Products::blas};
#else
inline constexpr Products tested_products[] = {Products::own};
#endif
#endif

// Made when a test asks: where there is no GPU none is run.
inline TestSpace const& one_thread()
{
  static TestSpace const space = test_space(Products::own, 1);
  return space;
}
// A GPU's handle has no threads, and another one would have a stream of its own.
inline TestSpace const& three_threads()
{
  if (!std::is_same_v<TestSpace, Host>) { return one_thread(); }
  static TestSpace const space = test_space(Products::own, 3);
  return space;
}

}  // namespace moe::test
