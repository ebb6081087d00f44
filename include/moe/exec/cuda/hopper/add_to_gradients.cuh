#pragma once
// From the tensor cores' registers to gradients that are added to in device memory.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <moe/core/view.hpp>
#include <moe/exec/cuda/hopper/instructions.cuh>

namespace moe::detail {

// Results as the tensor cores leave them: of each block of eight columns a thread has two
// neighbours, 2 i and 2 i + 1 for lane i of four. They are added to in pieces of 8 bytes, of which
// four lanes have 32 side by side: floats as they are; of 16 bits, each two lanes have exchanged
// theirs, so that an even one has four columns of a block and an odd one those of the next.
template <class G>
struct GradientPieces {
  static constexpr int columns = 8 / static_cast<int>(sizeof(G));  // of a piece
  static constexpr int width   = 4 * columns;                      // of four lanes' pieces
  static constexpr int per_row = 256 / width;

  __device__ static bool odd() { return threadIdx.x % 2 != 0; }
  // This thread's block among the four lanes', and its column.
  __device__ static int block() { return sizeof(G) == 2 && odd() ? 8 : 0; }
  __device__ static int column()
  {
    int const lane = static_cast<int>(threadIdx.x) % 4;
    return sizeof(G) == 2 ? block() + lane / 2 * 4 : lane * 2;
  }

  // old + acc, rounded once, for the four lanes' piece `at` of `half` (the first row, or that eight
  // rows further on). All of a warp together.
  __device__ __forceinline__ static uint2 sum(uint2 old, float const (&acc)[128], int half, int at)
  {
    if constexpr (sizeof(G) == 2) {
      int const one = at * 8 + half * 2, next = one + 4;
      float const x0 = swapped(acc[one], acc[next]), x1 = swapped(acc[one + 1], acc[next + 1]);
      float const a0 = odd() ? x0 : acc[one], a1 = odd() ? x1 : acc[one + 1];
      float const b0 = odd() ? acc[next] : x0, b1 = odd() ? acc[next + 1] : x1;
      return {pack_two<G>(unpack<G>(old.x, 0) + a0, unpack<G>(old.x, 1) + a1),
              pack_two<G>(unpack<G>(old.y, 0) + b0, unpack<G>(old.y, 1) + b1)};
    } else {
      int const one = at * 4 + half * 2;
      return {__float_as_uint(__uint_as_float(old.x) + acc[one]),
              __float_as_uint(__uint_as_float(old.y) + acc[one + 1])};
    }
  }

 private:
  // What this thread needs of its neighbour's two blocks, for what that one needs.
  __device__ __forceinline__ static float swapped(float one, float next)
  {
    return __shfl_xor_sync(~0u, odd() ? one : next, 1);
  }
};

// The part of 64 x 256 gradients that a thread of a warpgroup adds its results to. Some are on
// their way from memory while others are added to; the first from when this is made, before the
// results are there.
template <class G>
class GradientRows {
  using Pieces = GradientPieces<G>;

 public:
  // Rows of `stride` elements from dw on, of which `rows` and `columns` exist.
  __device__ __forceinline__ GradientRows(G* dw, index_t stride, int rows, int columns)
  {
    int const thread = static_cast<int>(threadIdx.x) % 128;
    int const row    = thread / 32 * 16 + thread % 32 / 4;
    to_[0]           = dw + row * stride + Pieces::column();
    to_[1]           = to_[0] + 8 * stride;
    rows_            = rows - row;
    columns_         = columns - Pieces::block();
#pragma unroll
    for (int batch = 0; batch < ahead; ++batch) {
      load(batch);
    }
  }

  __device__ __forceinline__ void add(float const (&acc)[128])
  {
#pragma unroll
    for (int batch = 0; batch < batches; ++batch) {
#pragma unroll
      for (int i = 0; i < each; ++i) {
        int const at    = batch * each + i;
        uint2 const sum = Pieces::sum(old_[batch % ahead][i], acc, half(at), at % Pieces::per_row);
        if (exists(at)) { *to(at) = sum; }
      }
      if (batch + ahead < batches) { load(batch + ahead); }
    }
  }

 private:
  static constexpr int each    = 8;  // pieces of a batch
  static constexpr int batches = 2 * Pieces::per_row / each;
  static constexpr int ahead   = 3;  // batches

  __device__ static int half(int at) { return at / Pieces::per_row; }
  __device__ static int from_column(int at) { return at % Pieces::per_row * Pieces::width; }
  __device__ bool exists(int at) const
  {
    return half(at) * 8 < rows_ && from_column(at) < columns_;
  }
  __device__ uint2* to(int at) const
  {
    return reinterpret_cast<uint2*>(to_[half(at)] + from_column(at));
  }
  __device__ __forceinline__ void load(int batch)
  {
#pragma unroll
    for (int i = 0; i < each; ++i) {
      int const at           = batch * each + i;
      old_[batch % ahead][i] = exists(at) ? *to(at) : uint2{};
    }
  }

  G* to_[2];
  int rows_, columns_;  // from this thread's first on
  uint2 old_[ahead][each];
};

}  // namespace moe::detail
