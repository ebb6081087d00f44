#pragma once
// How a tile of an operand of the tensor cores lies in shared memory.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <moe/exec/cuda/mma.cuh>

namespace moe::detail {

// How an operand lies in device memory: its stored rows are its lanes (rows of op(a), columns of
// op(b)) and k runs along them, or its stored rows are the k's.
enum class Major { k, lanes };

// A warp's part of an operand for mma.sync: four blocks of 16 lanes x 16 k, each as four matrices
// of 8 x 8 in the order in which the instruction takes them in neighbouring registers: of a (lanes
// 0-7, k 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15), of b (0-7, 0-7), (0-7, 8-15), (8-15, 0-7),
// (8-15, 8-15).
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

// wgmma's description of a tile whose rows of 128 bytes are exchanged piece by piece: `leading` and
// `stride` are the bytes from one block to the next (PTX ISA, matrix descriptor). Adding n / 16
// describes what lies n bytes further on. An address has 18 bits: what is above them, in a block of
// a cluster, says which block's it is.
__device__ inline std::uint64_t wgmma_descriptor(std::uint32_t address, int leading, int stride)
{
  return std::uint64_t{(address & 0x3ffff) / 16} | static_cast<std::uint64_t>(leading / 16) << 16 |
         static_cast<std::uint64_t>(stride / 16) << 32 | std::uint64_t{1} << 62;
}

// Lanes x Depth elements of 16 bits, in pieces of 16 bytes. A piece's place in its row is exchanged
// (xor with the row's number) so that neither copies nor tensor cores meet in a bank; of rows of
// 128 bytes it is the hardware's own pattern. Tiles start at multiples of 1024 bytes.
template <Major MajorV, int Lanes, int Depth>
struct SharedTile;

template <int Lanes, int Depth>
struct SharedTile<Major::k, Lanes, Depth> {
  static constexpr int bytes      = Lanes * Depth * 2;
  static constexpr int row_bytes  = Depth * 2;
  static constexpr int row_pieces = row_bytes / 16;

  // Of a lane's piece. The same for lanes that are 8 apart, but for 8 rows.
  __device__ static std::uint32_t offset(int lane, int piece)
  {
    return static_cast<std::uint32_t>(lane * row_bytes + (piece ^ exchange(lane)) * 16);
  }

  // Where this thread reads the fragments of a warp whose 64 lanes begin at `lane`.
  __device__ static std::uint32_t fragment_offset(MmaRole role, int lane)
  {
    MmaMatrixRow const m(role);
    return offset(lane + m.lane_half * 8 + m.row, m.k_half);
  }
  template <int K>  // a multiple of 16
  __device__ static void load(std::uint32_t tile_and_offset, MmaFragment& fragment)
  {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      load_matrices<false>(fragment[i], (tile_and_offset + i * 16 * row_bytes) ^ (K * 2));
    }
  }

  // Of the lanes from `lane` on (a multiple of 64); 16 further k's lie k_bytes further on.
  static constexpr int k_bytes = 32;
  __device__ static std::uint64_t descriptor(std::uint32_t tile, int lane)
  {
    return wgmma_descriptor(tile + static_cast<std::uint32_t>(lane * row_bytes), 16, 1024);
  }

 private:
  // Eight rows' pieces of one number cover the banks once.
  __device__ static int exchange(int lane) { return lane * row_bytes / 128 % row_pieces; }
};

// Chunks of 64 lanes, each Depth rows of 128 bytes.
template <int Lanes, int Depth>
struct SharedTile<Major::lanes, Lanes, Depth> {
  static constexpr int bytes       = Lanes * Depth * 2;
  static constexpr int row_bytes   = 128;
  static constexpr int row_pieces  = Lanes / 8;  // of a stored row, in all its chunks
  static constexpr int chunk_bytes = Depth * row_bytes;

  // The same for k's that are 8 apart, but for 8 rows.
  __device__ static std::uint32_t offset(int k, int piece)
  {
    return static_cast<std::uint32_t>(piece / 8 * chunk_bytes + k * row_bytes +
                                      ((piece % 8) ^ (k % 8)) * 16);
  }

  __device__ static std::uint32_t fragment_offset(MmaRole role, int lane)
  {
    MmaMatrixRow const m(role);
    return offset(m.k_half * 8 + m.row, lane / 8 + m.lane_half);
  }
  template <int K>
  __device__ static void load(std::uint32_t tile_and_offset, MmaFragment& fragment)
  {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      load_matrices<true>(fragment[i], (tile_and_offset + K * row_bytes) ^ (i * 32));
    }
  }

  static constexpr int k_bytes = 16 * row_bytes;
  __device__ static std::uint64_t descriptor(std::uint32_t tile, int lane)
  {
    return wgmma_descriptor(
        tile + static_cast<std::uint32_t>(lane / 64 * chunk_bytes), chunk_bytes, 1024);
  }
};

}  // namespace moe::detail
