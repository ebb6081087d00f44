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

// A warpgroup's places for boxes of a tile's results, taken in turn; its first thread stores from
// them, and knows when what it stored has been read. When a tile starts, all is.
template <class Products>
class ResultBoxes {
  static constexpr int places = 4;

 public:
  __device__ explicit ResultBoxes(Products& products) : products_{products} {}

  // Room for the next N boxes.
  template <int N>
  __device__ __forceinline__ void open()
  {
    static_assert(N <= places);
    if (products_.stores()) {
      cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<places - N>{});
    }
    products_.meet();
  }
  // Two neighbouring columns of blocks j and j + 1 of eight, of this thread's row and of the row
  // eight further on, as the tensor cores leave them, to the i-th of the open boxes.
  __device__ __forceinline__ void put(int i, int j, std::uint32_t (&four)[4]) const
  {
    store_matrices(place_(shared_address(box(i)), j), four);
  }
  // Once all threads have put what they have: store(i, box) by one thread, box after box.
  template <int N, class Store>
  __device__ __forceinline__ void close(Store const& store)
  {
    cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
    products_.meet();
    if (products_.stores()) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        store(i, box(i));
        cuda::ptx::cp_async_bulk_commit_group();
      }
    }
    turn_ += N;
  }

 private:
  __device__ __forceinline__ unsigned char* box(int i) const
  {
    return products_.place((turn_ + i) % places);
  }

  Products& products_;
  BoxPlace place_;
  int turn_ = 0;
};

// The 64 x 256 results acc of a warpgroup, whose first row is `row`, with their bias.
template <class T, class Products>
__device__ __forceinline__ void store_rows(RowsProduct<T> const& args,
                                           Products& products,
                                           GroupedTile const& tile,
                                           int row,
                                           float const (&acc)[128])
{
  constexpr int boxes = HopperTile::columns / 64;
  int const columns   = static_cast<int>(args.p.n) - tile.n0;
  int const mine      = static_cast<int>(threadIdx.x) % 4 * 2;
  T const* const bias =
      args.p.bias == nullptr ? nullptr : args.p.bias + tile.expert * args.p.n + tile.n0 + mine;
  ResultBoxes<Products> to(products);
  to.template open<boxes>();
#pragma unroll
  for (int box = 0; box < boxes; ++box) {
    if (box * 64 < columns) {
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        std::uint32_t four[4];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          int const block   = box * 8 + j + k;
          std::uint32_t add = 0;
          if (bias != nullptr && block * 8 < columns) {
            add = *reinterpret_cast<std::uint32_t const*>(bias + block * 8);
          }
          float const b0 = unpack<T>(add, 0), b1 = unpack<T>(add, 1);
          four[k * 2]     = pack_two<T>(b0 + acc[block * 4], b1 + acc[block * 4 + 1]);
          four[k * 2 + 1] = pack_two<T>(b0 + acc[block * 4 + 2], b1 + acc[block * 4 + 3]);
        }
        to.put(box, j, four);
      }
    }
  }
  to.template close<boxes>([&](int box, unsigned char const* from) {
    if (box * 64 < columns) {
      store_ragged_box(args.c_map, tile.n0 + box * 64, row, tile.m1, from);
    }
  });
}

}  // namespace moe::detail
