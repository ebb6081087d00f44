#pragma once
// From the tensor cores' registers to gradients that are added to in device memory.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/mma_results.cuh>

namespace moe::detail {

// The part of 64 x 256 gradients that a thread of a warpgroup adds its results to: eight
// neighbouring columns at a time, of two rows. Some are on their way from memory while others are
// added to; the first from when this is made.
template <class G>
class GradientRows {
 public:
  // Rows of `stride` elements from dw on, of which `rows` and `columns` exist.
  __device__ __forceinline__ GradientRows(G* dw, index_t stride, int rows, int columns)
  {
    int const thread = static_cast<int>(threadIdx.x) % 128, lane = thread % 32;
    int const row = thread / 32 * 16 + lane / 4, column = lane % 4 * 8;
    to_[0]   = dw + row * stride + column;
    to_[1]   = to_[0] + 8 * stride;
    rows_    = rows - row;
    columns_ = columns - column;
    load(0);
  }

  __device__ __forceinline__ void add(float const (&acc)[128])
  {
#pragma unroll
    for (int batch = 0; batch < batches; ++batch) {
      if (batch + 1 < batches) { load(batch + 1); }
#pragma unroll
      for (int i = 0; i < each; ++i) {
        int const at = batch * each + i;
        float x[4][2];
#pragma unroll
        for (int block = 0; block < 4; ++block) {
          int const from = (at % 8 * 4 + block) * 4 + at / 8 * 2;
          x[block][0]    = acc[from];
          x[block][1]    = acc[from + 1];
        }
        gather_eight(x);
        if (exists(at)) { store_eight(sum<G>(old_[batch % 2][i], x), to(at)); }
      }
    }
  }

 private:
  static constexpr int each    = sizeof(G) == 2 ? 4 : 2;  // pieces of eight of a batch
  static constexpr int batches = 16 / each;

  // Of piece `at` of 16.
  __device__ bool exists(int at) const { return at / 8 * 8 < rows_ && at % 8 * 32 < columns_; }
  __device__ G* to(int at) const { return to_[at / 8] + at % 8 * 32; }
  __device__ __forceinline__ void load(int batch)
  {
#pragma unroll
    for (int i = 0; i < each; ++i) {
      int const at       = batch * each + i;
      old_[batch % 2][i] = exists(at) ? load_eight(to(at)) : Eight<G>{};
    }
  }

  G* to_[2];
  int rows_, columns_;  // from this thread's first on
  Eight<G> old_[2][each];
};

}  // namespace moe::detail
