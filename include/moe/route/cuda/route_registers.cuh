#pragma once
// A row of logits in the registers of eight lanes, for route_by_logits.cuh.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/vector.cuh>
#include <moe/route/row_math.hpp>

namespace moe::detail {

inline constexpr int route_lanes   = 8;                    // of a row
inline constexpr int route_columns = 8 * 4 * route_lanes;  // at most

// Among the lanes of a row.
__device__ inline float max_of_row(float x)
{
#pragma unroll
  for (int step = route_lanes / 2; step > 0; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
  }
  return x;
}

// A row's part in the registers of a lane: columns 32 i + 4 lane + j, those past E as -infinity.
template <int Chunks>
struct RouteRegisters {
  float z[Chunks][4];

  __device__ RouteRegisters(Row<float const> logits, int lane)
  {
    float const* const from = logits.data() + 4 * lane;
    Id const E              = logits.size();
    float odd               = 0;  // NaN from the first logit that is not finite
    if (E == 32 * Chunks) {
#pragma unroll
      for (int i = 0; i < Chunks; ++i) {
        take(i, load_16(from + 32 * i), odd);
      }
    } else {
#pragma unroll
      for (int i = 0; i < Chunks; ++i) {
        if (32 * i + 4 * lane < E) {
          take(i, load_16(from + 32 * i), odd);
        } else {
          z[i][0] = z[i][1] = z[i][2] = z[i][3] = -INFINITY;
        }
      }
    }
    if (__any_sync(~0u, odd != 0)) {
#pragma unroll 1
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int i = 0; i < Chunks; ++i) {
          if (32 * i + 4 * lane < E) { z[i][0] = finite_logit(z[i][0]); }
          float const first = z[i][0];  // a turn, so that registers have fixed names
          z[i][0]           = z[i][1];
          z[i][1]           = z[i][2];
          z[i][2]           = z[i][3];
          z[i][3]           = first;
        }
      }
    }
  }
  __device__ void take(int i, Vector16<float> const& v, float& odd)
  {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      z[i][j] = v[j];
      odd     = __fmaf_rn(v[j], 0.f, odd);
    }
  }

  // The largest and the K-th largest of the strides' maxima, or less where some are equal.
  struct Bounds {
    float maximum, threshold;
  };
  template <int K>
  __device__ Bounds bounds() const
  {
    float head[4];  // of this lane's strides, descending
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      head[j] = z[0][j];
#pragma unroll
      for (int i = 1; i < Chunks; ++i) {
        head[j] = fmaxf(head[j], z[i][j]);
      }
    }
    auto const order = [&](int a, int b) {
      float const larger = fmaxf(head[a], head[b]);
      head[b]            = fminf(head[a], head[b]);
      head[a]            = larger;
    };
    order(0, 1);
    order(2, 3);
    order(0, 2);
    order(1, 3);
    order(1, 2);
    Bounds b{};
#pragma unroll(K <= 8 ? K : 1)
    for (int k = 0; k < K; ++k) {
      b.threshold = max_of_row(head[0]);
      if (k == 0) { b.maximum = b.threshold; }
      if (head[0] == b.threshold) {
        head[0] = head[1];
        head[1] = head[2];
        head[2] = head[3];
        head[3] = -INFINITY;
      }
    }
    b.threshold = fmaxf(b.threshold, -largest_finite<float>);
    return b;
  }

  // Which of this lane's columns reach the threshold: bit 4 i + j from the left.
  [[nodiscard]] __device__ unsigned candidates(float threshold) const
  {
    if (threshold == 0) { threshold = -0.f; }  // 0 - -0 and -0 - -0 are 0
    unsigned below = 0;
#pragma unroll
    for (int i = 0; i < Chunks; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {  // the sign of the difference
        below = __funnelshift_l(__float_as_uint(z[i][j] - threshold), below, 1);
      }
    }
    return ~below << (32 - 4 * Chunks);
  }

  // row_softmax()'s sum, in its order: 32 strides, then butterflies of 16, 8, 4, 2 and 1.
  [[nodiscard]] __device__ float sum_of_exp(float maximum) const
  {
    float part[4] = {};
#pragma unroll
    for (int i = 0; i < Chunks; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        part[j] += std::exp(z[i][j] - maximum);
      }
    }
#pragma unroll
    for (int step = route_lanes / 2; step > 0; step /= 2) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        part[j] += __shfl_xor_sync(~0u, part[j], step);
      }
    }
    return (part[0] + part[2]) + (part[1] + part[3]);
  }
};

}  // namespace moe::detail
