#pragma once
// An operand's way from device memory to its tiles in shared memory, by all threads of a block.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/grouped_tiles.cuh>
#include <moe/exec/cuda/shared_tile.cuh>

namespace moe::detail {

inline constexpr int tile_threads = 256;

// Copies tiles of Lanes x Depth one after the other along k, 16 bytes a thread at a time, and
// zeros where there is nothing: start() for an operand, then copy() for each of its tiles.
template <class T, Major MajorV, int Lanes, int Depth>
class OperandCopies;

template <class T, int Lanes, int Depth>
class OperandCopies<T, Major::k, Lanes, Depth> {
 public:
  using Tile = SharedTile<Major::k, Lanes, Depth>;

  // Lanes [lane0, lane_end) exist, and k in [0, k_end).
  __device__ void start(
      StoredRows<T> const& rows, index_t lane0, index_t lane_end, index_t, index_t k_end)
  {
    from_   = reinterpret_cast<Piece const*>(rows.base) + piece();
    k_left_ = static_cast<int>(k_end) - piece() * 8;
#pragma unroll
    for (int i = 0; i < pieces; ++i) {
      index_t const lane = lane0 + first_row() + i * row_step;
      T const* const row = lane < lane_end ? rows.row(lane) : nullptr;
      row_[i] = row == nullptr ? zeros : static_cast<std::uint32_t>((row - rows.base) / 8);
    }
  }
  __device__ void copy(std::uint32_t tile)
  {
    std::uint32_t const live = k_left_ > 0 ? zeros : 0;
    std::uint32_t const to   = tile + Tile::offset(first_row(), piece());
#pragma unroll
    for (int i = 0; i < pieces; ++i) {
      copy_async_16(to + i * row_step * Tile::row_bytes, from_ + row_[i], row_[i] < live);
    }
    from_ += Tile::row_pieces;
    k_left_ -= Depth;
  }

 private:
  struct Piece {
    T items[8];
  };
  static constexpr std::uint32_t zeros = ~0u;
  static constexpr int row_step        = tile_threads / Tile::row_pieces;
  static constexpr int pieces          = Lanes / row_step;  // of a thread
  static_assert(row_step % 8 == 0);

  __device__ static int piece() { return static_cast<int>(threadIdx.x) % Tile::row_pieces; }
  __device__ static int first_row() { return static_cast<int>(threadIdx.x) / Tile::row_pieces; }

  Piece const* from_;          // this thread's piece of the next tile, in row 0
  std::uint32_t row_[pieces];  // in pieces from row 0, or zeros: 32 bits reach 64 GiB
  int k_left_;
};

template <class T, int Lanes, int Depth>
class OperandCopies<T, Major::lanes, Lanes, Depth> {
 public:
  using Tile = SharedTile<Major::lanes, Lanes, Depth>;

  // Lanes [lane0, lane_end) exist; stored rows [k_begin, k_end) are the k's.
  __device__ void start(
      StoredRows<T> const& rows, index_t lane0, index_t lane_end, index_t k_begin, index_t k_end)
  {
    from_   = reinterpret_cast<char const*>(rows.base + lane0) + piece() * 16;
    index_  = rows.index;
    stride_ = static_cast<std::uint32_t>(rows.stride) * 2;
    k_      = static_cast<int>(k_begin) + first_row();
    k_end_  = lane0 + piece() * 8 < lane_end ? static_cast<int>(k_end) : 0;
    find_rows();
  }
  __device__ void copy(std::uint32_t tile)
  {
    std::uint32_t const to = tile + Tile::offset(first_row(), piece());
#pragma unroll
    for (int i = 0; i < pieces; ++i) {
      copy_async_16(
          to + i * row_step * Tile::row_bytes, from_ + index_t{row_[i]} * stride_, row_[i] >= 0);
    }
    k_ += Depth;
    find_rows();
  }

 private:
  static constexpr int row_step = tile_threads / Tile::row_pieces;
  static constexpr int pieces   = Depth / row_step;
  static_assert(row_step % 8 == 0);

  __device__ static int piece() { return static_cast<int>(threadIdx.x) % Tile::row_pieces; }
  __device__ static int first_row() { return static_cast<int>(threadIdx.x) / Tile::row_pieces; }

  // The stored rows of the next copy, a step ahead of it, so that their index has arrived by then.
  __device__ void find_rows()
  {
    if (index_ == nullptr) {
#pragma unroll
      for (int i = 0; i < pieces; ++i) {
        int const k = k_ + i * row_step;
        row_[i]     = k < k_end_ ? k : -1;
      }
    } else {
#pragma unroll
      for (int i = 0; i < pieces; ++i) {
        int const k = k_ + i * row_step;
        row_[i]     = k < k_end_ ? index_[k] : -1;
      }
    }
  }

  char const* from_;  // this thread's piece of row 0
  Id const* index_;
  std::uint32_t stride_;  // bytes
  int k_, k_end_;
  Id row_[pieces];  // -1: zeros
};

}  // namespace moe::detail
