#pragma once
// Registration on the space that this file is compiled for, and main().
#include <benchmark/benchmark.h>

#include "space.hpp"
#if defined(__CUDACC__)
#include "context.cuh"
#endif

// MOE_BENCHMARK(route, SwitchRouter) registers route<Host, SwitchRouter>, or route<Cuda, ...>. Rows
// that a space lacks stand under #if: Cuda has no double, Host a BLAS only where one was found.
#if defined(__CUDACC__)
#define MOE_BENCHMARK(function, ...) BENCHMARK(function<Cuda, __VA_ARGS__>)
#define MOE_BENCH_HAS_DOUBLE 0
#define MOE_BENCH_HAS_BLAS 1
#else
#define MOE_BENCHMARK(function, ...) BENCHMARK(function<Host, __VA_ARGS__>)
#define MOE_BENCH_HAS_DOUBLE 1
#if defined(MOE_WITH_CBLAS)
#define MOE_BENCH_HAS_BLAS 1
#else
#define MOE_BENCH_HAS_BLAS 0
#endif
#endif

namespace moe_bench {

// What every program's main does: `register_rows` first, for rows whose names are made at run time.
inline int run(int argc, char** argv, void (*register_rows)() = nullptr)
{
#if defined(__CUDACC__)
  if (!has_gpu()) { return 0; }
  add_gpu_context();
  benchmark::AddCustomContext("space", "Cuda");
#else
  benchmark::AddCustomContext("space", "Host");
#endif
  if (register_rows != nullptr) { register_rows(); }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) { return 1; }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace moe_bench
