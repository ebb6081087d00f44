#pragma once
// From the tensor cores' registers through boxes of 64 x 64 in shared memory to rows in device
// memory, which the hardware writes while the warpgroup goes on.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/instructions.cuh>
#include <moe/exec/cuda/hopper/rows_product.cuh>
#include <moe/exec/cuda/mma.cuh>

namespace moe::detail {

// A warpgroup's boxes, taken in turn: one is filled while another is on its way.
class ResultBoxes {
 public:
  __device__ ResultBoxes(unsigned char (&boxes)[HopperTile::boxes][HopperTile::box_bytes],
                         int warpgroup)
      : boxes_{boxes[0]}, barrier_{1 + warpgroup}, thread_{static_cast<int>(threadIdx.x) % 128}
  {
    int const lane = thread_ % 32;
    row_           = thread_ / 32 * 16 + lane / 8 % 2 * 8 + lane % 8;
    column_        = lane / 16;
  }

  // r[j]: two neighbouring columns of block j of eight, of this thread's row and of the row eight
  // further on, as the tensor cores leave them. To rows [row, end) of the map, from `column` on.
  __device__ __forceinline__ void store(
      CUtensorMap const& map, int column, int row, int end, std::uint32_t const (&r)[8][2])
  {
    unsigned char* const box = boxes_ + turn_ * HopperTile::box_bytes;
    if (thread_ == 0) {  // who stored it last knows when it has been read
      cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<HopperTile::boxes - 1>{});
    }
    meet();
    std::uint32_t const to = shared_address(box) + static_cast<std::uint32_t>(row_ * 128);
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      std::uint32_t four[4] = {r[j][0], r[j][1], r[j + 1][0], r[j + 1][1]};
      store_matrices(to + static_cast<std::uint32_t>(((j + column_) ^ (row_ % 8)) * 16), four);
    }
    cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
    meet();
    if (thread_ == 0) {
      store_ragged_box(map, column, row, end, box);
      cuda::ptx::cp_async_bulk_commit_group();
    }
    turn_ = turn_ + 1 == HopperTile::boxes ? 0 : turn_ + 1;
  }
  __device__ __forceinline__ void end()  // all is written
  {
    if (thread_ == 0) { cuda::ptx::cp_async_bulk_wait_group(cuda::ptx::n32_t<0>{}); }
  }

 private:
  __device__ __forceinline__ void meet() { barrier_wait(barrier_, 128); }

  unsigned char* boxes_;
  int barrier_, thread_;
  int row_, column_;  // of the matrix row whose address this thread gives
  int turn_ = 0;
};

// The 64 x 256 results acc of a warpgroup, whose first row is `row`, with their bias.
template <class T>
__device__ __forceinline__ void store_rows(RowsProduct<T> const& args,
                                           ResultBoxes& boxes,
                                           GroupedTile const& tile,
                                           int row,
                                           float const (&acc)[128])
{
  int const columns = static_cast<int>(args.p.n) - tile.n0;
  int const mine    = static_cast<int>(threadIdx.x) % 4 * 2;
  T const* const bias =
      args.p.bias == nullptr ? nullptr : args.p.bias + tile.expert * args.p.n + tile.n0 + mine;
#pragma unroll
  for (int box = 0; box < HopperTile::columns / 64; ++box) {
    if (box * 64 < columns) {
      std::uint32_t r[8][2];
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        int const block   = box * 8 + j;
        std::uint32_t add = 0;
        if (bias != nullptr && block * 8 < columns) {
          add = *reinterpret_cast<std::uint32_t const*>(bias + block * 8);
        }
        float const b0 = unpack<T>(add, 0), b1 = unpack<T>(add, 1);
        r[j][0] = pack_two<T>(b0 + acc[block * 4], b1 + acc[block * 4 + 1]);
        r[j][1] = pack_two<T>(b0 + acc[block * 4 + 2], b1 + acc[block * 4 + 3]);
      }
      boxes.store(args.c_map, tile.n0 + box * 64, row, tile.m1, r);
    }
  }
}

}  // namespace moe::detail
