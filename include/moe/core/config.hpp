#pragma once
// What the compiler must be, and the one place that knows whether nvcc compiles this file.
#include <moe/version.hpp>

#if !defined(_MSVC_LANG) && __cplusplus < 202002L
#error "moe needs C++20: link moe::moe with target_link_libraries, or pass -std=c++20"
#endif
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error \
    "moe refuses -ffast-math and -ffinite-math-only: NaN handling and the promised bits need IEEE arithmetic"
#endif

#if defined(__CUDACC__)
#define MOE_HOST_DEVICE __host__ __device__
#else
#define MOE_HOST_DEVICE
#endif
