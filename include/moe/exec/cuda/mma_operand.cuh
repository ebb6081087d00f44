#pragma once
// One operand of the tensor-core product: its way from device to shared memory and on into
// registers.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/grouped_tiles.cuh>
#include <moe/exec/cuda/mma.cuh>

namespace moe::detail {

// How an operand lies in memory: its stored rows are its lanes (rows of op(a), columns of op(b))
// and k runs along them, or its stored rows are the k's.
enum class Major { k, lanes };

struct MmaTuning {
  int rows, columns, depth;  // of a block's tile
  int stages;                // tiles on their way or in use
  int threads;
};
// 2 x 4 warps of 64 x 64 results. 96 KiB of shared memory, which a block gets on every GPU from
// sm_80 on; the tile is as wide as registers allow, because the second-level cache feeds it.
inline constexpr MmaTuning mma_tuning{
    .rows = 128, .columns = 256, .depth = 32, .stages = 4, .threads = 256};

// A warp's part of an operand: four blocks of 16 lanes x 16 k, each as four matrices of 8 x 8 in
// the order in which mma.sync takes them in neighbouring registers: of a (lanes 0-7, k 0-7), (8-15,
// 0-7), (0-7, 8-15), (8-15, 8-15), of b (0-7, 0-7), (0-7, 8-15), (8-15, 0-7), (8-15, 8-15).
using MmaFragment = std::uint32_t[4][4];
enum class MmaRole { a, b };

// Which of the four matrices this thread gives ldmatrix a row of, and which row.
struct MmaMatrixRow {
  int lane_half, k_half, row;

  __device__ explicit MmaMatrixRow(MmaRole role)
  {
    int const matrix = static_cast<int>(threadIdx.x) % 32 / 8;
    lane_half        = role == MmaRole::a ? matrix % 2 : matrix / 2;
    k_half           = role == MmaRole::a ? matrix / 2 : matrix % 2;
    row              = static_cast<int>(threadIdx.x) % 8;
  }
};

// Tiles of Lanes x 32 k, one after the other along k, in pieces of 16 bytes. A piece's place in its
// row is exchanged (xor) so that neither copies nor ldmatrix meet in a bank.
template <class T, Major MajorV, int Lanes>
class MmaOperand;

template <class T, int Lanes>
class MmaOperand<T, Major::k, Lanes> {
 public:
  static constexpr int bytes = Lanes * mma_tuning.depth * 2;

  // Lanes [lane0, lane_end) exist, and k in [0, k_end).
  __device__ MmaOperand(
      StoredRows<T> const& rows, index_t lane0, index_t lane_end, index_t, index_t k_end)
      : from_{reinterpret_cast<Piece const*>(rows.base) + piece()},
        to_{static_cast<std::uint32_t>(first_row() * row_bytes +
                                       (piece() ^ exchange(first_row())) * 16)},
        k_left_{static_cast<int>(k_end) - piece() * 8}
  {
#pragma unroll
    for (int i = 0; i < pieces; ++i) {
      index_t const lane = lane0 + first_row() + i * row_step;
      T const* const row = lane < lane_end ? rows.row(lane) : nullptr;
      row_[i] = row == nullptr ? zeros : static_cast<std::uint32_t>((row - rows.base) / 8);
    }
  }
  // Starts the copy of the next tile.
  __device__ void copy(std::uint32_t tile)
  {
    std::uint32_t const live = k_left_ > 0 ? zeros : 0;
#pragma unroll
    for (int i = 0; i < pieces; ++i) {
      copy_async_16(tile + to_ + i * row_step * row_bytes, from_ + row_[i], row_[i] < live);
    }
    from_ += row_pieces;
    k_left_ -= mma_tuning.depth;
  }

  // Where this thread reads the fragments of a warp whose lanes begin at `warp_lane`.
  __device__ static std::uint32_t fragment_offset(MmaRole role, int warp_lane)
  {
    MmaMatrixRow const m(role);
    return static_cast<std::uint32_t>((warp_lane + m.lane_half * 8 + m.row) * row_bytes +
                                      (m.k_half ^ exchange(m.row)) * 16);
  }
  template <int K>  // a multiple of 16
  __device__ static void load(std::uint32_t tile_and_offset, MmaFragment& fragment)
  {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      load_matrices<false>(fragment[i], (tile_and_offset + i * 16 * row_bytes) ^ (K * 2));
    }
  }

 private:
  static constexpr int row_bytes  = mma_tuning.depth * 2;
  static constexpr int row_pieces = row_bytes / 16;
  static constexpr int row_step   = mma_tuning.threads / row_pieces;
  static constexpr int pieces     = Lanes / row_step;  // of a thread

  __device__ static int piece() { return static_cast<int>(threadIdx.x) % row_pieces; }
  __device__ static int first_row() { return static_cast<int>(threadIdx.x) / row_pieces; }
  // Eight rows' pieces of one number cover the banks once; of row_step rows it is the same.
  __device__ static int exchange(int row) { return row * row_bytes / 128 % row_pieces; }

  struct Piece {
    T items[8];
  };
  static constexpr std::uint32_t zeros = ~0u;

  Piece const* from_;          // this thread's piece of the next tile, in row 0
  std::uint32_t row_[pieces];  // in pieces from row 0, or zeros: 32 bits reach 64 GiB
  std::uint32_t to_;
  int k_left_;
};

template <class T, int Lanes>
class MmaOperand<T, Major::lanes, Lanes> {
 public:
  static constexpr int bytes = Lanes * mma_tuning.depth * 2;

  // Lanes [lane0, lane_end) exist; stored rows [k_begin, k_end) are the k's.
  __device__ MmaOperand(
      StoredRows<T> const& rows, index_t lane0, index_t lane_end, index_t k_begin, index_t k_end)
      : from_{rows.base + lane0 + piece() * 8},
        index_{rows.index},
        stride_{static_cast<int>(rows.stride)},
        to_{static_cast<std::uint32_t>(first_row() * row_bytes +
                                       (piece() ^ (first_row() % 8)) * 16)},
        k_{static_cast<int>(k_begin) + first_row()},
        k_end_{lane0 + piece() * 8 < lane_end ? static_cast<int>(k_end) : 0}
  {
    find_rows();
  }
  __device__ void copy(std::uint32_t tile)
  {
#pragma unroll
    for (int i = 0; i < pieces; ++i) {
      copy_async_16(
          tile + to_ + i * row_step * row_bytes, from_ + index_t{row_[i]} * stride_, row_[i] >= 0);
    }
    k_ += mma_tuning.depth;
    find_rows();
  }

  __device__ static std::uint32_t fragment_offset(MmaRole role, int warp_lane)
  {
    MmaMatrixRow const m(role);
    return static_cast<std::uint32_t>((m.k_half * 8 + m.row) * row_bytes + warp_lane * 2 +
                                      (m.lane_half ^ m.row) * 16);
  }
  template <int K>
  __device__ static void load(std::uint32_t tile_and_offset, MmaFragment& fragment)
  {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      load_matrices<true>(fragment[i], (tile_and_offset + K * row_bytes) ^ (i * 32));
    }
  }

 private:
  static constexpr int row_bytes = Lanes * 2;
  static constexpr int row_step  = mma_tuning.threads / (Lanes / 8);
  static constexpr int pieces    = mma_tuning.depth / row_step;

  __device__ static int piece() { return static_cast<int>(threadIdx.x) % (Lanes / 8); }
  __device__ static int first_row() { return static_cast<int>(threadIdx.x) / (Lanes / 8); }

  // The stored rows of the next copy, a step ahead of it, so that their index has arrived by then.
  __device__ void find_rows()
  {
#pragma unroll
    for (int i = 0; i < pieces; ++i) {
      int const k = k_ + i * row_step;
      row_[i]     = k >= k_end_ ? -1 : index_ == nullptr ? k : index_[k];
    }
  }

  T const* from_;
  Id const* index_;
  int stride_;
  std::uint32_t to_;
  int k_, k_end_;
  Id row_[pieces];  // -1: zeros
};

}  // namespace moe::detail
