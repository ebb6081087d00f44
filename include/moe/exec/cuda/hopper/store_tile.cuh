#pragma once
// From the tensor cores' registers through boxes of 64 x 64 in shared memory to rows in device
// memory, which the hardware writes while the warpgroup goes on.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/instructions.cuh>
#include <moe/exec/cuda/hopper/rows_product.cuh>
#include <moe/exec/cuda/mma.cuh>

namespace moe::detail {

// Where this thread's two neighbouring columns of each eight of a box of 64 x 64 lie, in rows of
// its warp.
class BoxPlace {
 public:
  __device__ BoxPlace()
  {
    int const thread = static_cast<int>(threadIdx.x) % 128, lane = thread % 32;
    row_    = thread / 32 * 16 + lane / 8 % 2 * 8 + lane % 8;
    column_ = lane / 16;
  }
  // Of matrices j and j + 1: the address that this thread gives.
  __device__ __forceinline__ std::uint32_t operator()(std::uint32_t box, int j) const
  {
    return box + static_cast<std::uint32_t>(row_ * 128 + ((j + column_) ^ (row_ % 8)) * 16);
  }

 private:
  int row_, column_;
};

// A warpgroup's boxes, taken in turn: one is filled while another is on its way.
class ResultBoxes {
 public:
  __device__ ResultBoxes(unsigned char (&boxes)[HopperTile::boxes][HopperTile::box_bytes],
                         int warpgroup)
      : boxes_{boxes[0]}, barrier_{1 + warpgroup}, thread_{static_cast<int>(threadIdx.x) % 128}
  {
  }

  // r[j]: two neighbouring columns of block j of eight, of this thread's row and of the row eight
  // further on, as the tensor cores leave them. To rows [row, end) of the map, from `column` on.
  __device__ __forceinline__ void store(
      CUtensorMap const& map, int column, int row, int end, std::uint32_t const (&r)[8][2])
  {
    store<HopperTile::boxes - 1>(map, column, row, end, r, [] {}, [] {});
  }
  // One thread also calls read(), when but Unread of the boxes stored before have been read, and
  // then, when what all threads have written to shared memory can be stored, more().
  template <int Unread, class Read, class More>
  __device__ __forceinline__ void store(CUtensorMap const& map,
                                        int column,
                                        int row,
                                        int end,
                                        std::uint32_t const (&r)[8][2],
                                        Read const& read,
                                        More const& more)
  {
    static_assert(Unread < HopperTile::boxes);
    unsigned char* const box = boxes_ + turn_ * HopperTile::box_bytes;
    if (thread_ == 0) {  // who stored them knows
      cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<Unread>{});
      read();
    }
    meet();
    std::uint32_t const to = shared_address(box);
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      std::uint32_t four[4] = {r[j][0], r[j][1], r[j + 1][0], r[j + 1][1]};
      store_matrices(place_(to, j), four);
    }
    cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
    meet();
    if (thread_ == 0) {
      store_ragged_box(map, column, row, end, box);
      more();
      cuda::ptx::cp_async_bulk_commit_group();
    }
    turn_ = turn_ + 1 == HopperTile::boxes ? 0 : turn_ + 1;
  }
  template <class Read>
  __device__ __forceinline__ void wait_read(Read const& read)  // all that is stored
  {
    if (thread_ == 0) {
      cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>{});
      read();
    }
  }
  __device__ __forceinline__ void end()  // all is written
  {
    if (thread_ == 0) { cuda::ptx::cp_async_bulk_wait_group(cuda::ptx::n32_t<0>{}); }
  }

 private:
  __device__ __forceinline__ void meet() { barrier_wait(barrier_, 128); }

  unsigned char* boxes_;
  int barrier_, thread_;
  BoxPlace place_;
  int turn_ = 0;
};

// The 64 x 256 results acc of a warpgroup, whose first row is `row`, with their bias.
template <class T, class Products>
__device__ __forceinline__ void store_rows(RowsProduct<T> const& args,
                                           Products&,
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
