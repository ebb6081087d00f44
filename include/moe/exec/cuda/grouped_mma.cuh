#pragma once
// The grouped products on tensor cores, for Half and BFloat16 on sm_80 and newer. Every element is
// one chain over ascending k, so its bits depend on its own rows and columns alone.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/grouped_tiles.cuh>
#include <moe/exec/cuda/mma.cuh>

namespace moe::detail {

// How an operand's tile lies in memory: stored rows are its lanes (rows of op(a), columns of op(b))
// and k runs along them, or stored rows are the k's.
enum class Major { k, lanes };

struct MmaTuning {
  int rows, columns, depth;  // of a block's tile
  int stages;
};
inline constexpr MmaTuning mma_tuning{.rows = 128, .columns = 128, .depth = 32, .stages = 4};
inline constexpr int mma_threads = 128;  // 2 x 2 warps, 64 x 64 results each

// One operand's tile of 128 lanes x 32 k in shared memory, 8 KiB, in pieces of 16 bytes whose place
// in their row is exchanged so that neither copies nor ldmatrix meet in a bank.
template <class T, Major MajorV>
struct MmaOperand {
  static constexpr int pieces_per_thread = 4;
  static constexpr int bytes             = 128 * 32 * 2;

  StoredRows<T> rows;
  index_t lane0, lanes;    // of the tile: lanes [lane0, lanes) exist
  index_t k_begin, k_end;  // stored rows are k's: their absolute range; else k in [0, k_end)
  T const* pointer[pieces_per_thread];

  // Lane rows: found once for the whole tile.
  __device__ void begin()
  {
    if constexpr (MajorV == Major::k) {
      for (int i = 0; i < pieces_per_thread; ++i) {
        index_t const lane = lane0 + threadIdx.x / 4 + i * 32;
        pointer[i]         = lane < lanes ? rows.row(lane) : nullptr;
      }
    } else {
      fetch_rows(k_begin);
    }
  }
  // k rows: those of the next copy, so that their index has arrived by then.
  __device__ void fetch_rows(index_t k)
  {
    for (int i = 0; i < pieces_per_thread; ++i) {
      index_t const r = k + threadIdx.x / 16 + i * 8;
      pointer[i]      = r < k_end ? rows.row(r) : nullptr;
    }
  }
  // Copies the tile at k; k counts from k_begin's place.
  __device__ void copy(std::uint32_t to, index_t k)
  {
    for (int i = 0; i < pieces_per_thread; ++i) {
      if constexpr (MajorV == Major::k) {
        int const row    = static_cast<int>(threadIdx.x) / 4 + i * 32;
        int const piece  = static_cast<int>(threadIdx.x) % 4;
        index_t const at = k + piece * 8;
        bool const live  = pointer[i] != nullptr && at < k_end;
        copy_async_16(to + row * 64 + ((piece ^ (row / 2 % 4)) * 16),
                      live ? pointer[i] + at : rows.base,
                      live);
      } else {
        int const row    = static_cast<int>(threadIdx.x) / 16 + i * 8;
        int const piece  = static_cast<int>(threadIdx.x) % 16;
        index_t const at = lane0 + piece * 8;
        bool const live  = pointer[i] != nullptr && at < lanes;
        copy_async_16(
            to + row * 256 + ((piece ^ (row % 8)) * 16), live ? pointer[i] + at : rows.base, live);
      }
    }
    if constexpr (MajorV == Major::lanes) { fetch_rows(k + 32); }
  }
  // Where this thread's row of a 16 (lanes) x 16 (k) block starts for ldmatrix; in order the
  // matrices (lanes 0-7, k 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15).
  __device__ static std::uint32_t matrix_row(std::uint32_t tile, int lane, int k)
  {
    int const matrix = static_cast<int>(threadIdx.x) % 32 / 8,
              r      = static_cast<int>(threadIdx.x) % 8;
    if constexpr (MajorV == Major::k) {
      int const row = lane + matrix % 2 * 8 + r, piece = k / 8 + matrix / 2;
      return tile + row * 64 + ((piece ^ (row / 2 % 4)) * 16);
    } else {
      int const row = k + matrix / 2 * 8 + r, piece = lane / 8 + matrix % 2;
      return tile + row * 256 + ((piece ^ (row % 8)) * 16);
    }
  }
};

// acc (64, 64) of this warp += the tile's product over all k of the operands.
template <class T, Major A, Major B>
__device__ void mma_tile(MmaOperand<T, A>& a,
                         MmaOperand<T, B>& b,
                         index_t k_begin,
                         index_t k_end,
                         unsigned char* shared,
                         float (&acc)[4][8][4])
{
  constexpr int stages         = mma_tuning.stages;
  constexpr int tile_bytes     = MmaOperand<T, A>::bytes;
  std::uint32_t const a_shared = shared_address(shared);
  std::uint32_t const b_shared = a_shared + stages * tile_bytes;
  int const warp               = static_cast<int>(threadIdx.x) / 32;
  int const warp_m = warp / 2 * 64, warp_n = warp % 2 * 64;
  index_t const steps = (k_end - k_begin + 31) / 32;

  a.begin();
  b.begin();
  for (int s = 0; s < stages - 1; ++s) {
    if (s < steps) {
      a.copy(a_shared + s * tile_bytes, k_begin + s * 32);
      b.copy(b_shared + s * tile_bytes, k_begin + s * 32);
    }
    commit_copies();
  }
  for (index_t step = 0; step < steps; ++step) {
    wait_copies<stages - 2>();
    __syncthreads();
    index_t const next = step + stages - 1;
    if (next < steps) {
      std::uint32_t const at = static_cast<std::uint32_t>(next % stages) * tile_bytes;
      a.copy(a_shared + at, k_begin + next * 32);
      b.copy(b_shared + at, k_begin + next * 32);
    }
    commit_copies();
    std::uint32_t const here = static_cast<std::uint32_t>(step % stages) * tile_bytes;
#pragma unroll
    for (int k = 0; k < 32; k += 16) {
      std::uint32_t ra[4][4], rb[4][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        load_matrices<A == Major::lanes>(
            ra[i], MmaOperand<T, A>::matrix_row(a_shared + here, warp_m + i * 16, k));
        load_matrices<B == Major::lanes>(
            rb[i], MmaOperand<T, B>::matrix_row(b_shared + here, warp_n + i * 16, k));
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          multiply_add<T>(acc[i][2 * j], ra[i], rb[j][0], rb[j][2]);
          multiply_add<T>(acc[i][2 * j + 1], ra[i], rb[j][1], rb[j][3]);
        }
      }
    }
  }
  wait_copies<0>();
}

// value(i, j) of this thread's results: f(row, column, x0, x1) with two neighbouring columns.
template <class F>
__device__ void for_each_pair(float const (&acc)[4][8][4], F const& f)
{
  int const warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  int const warp_m = warp / 2 * 64, warp_n = warp % 2 * 64;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        f(warp_m + i * 16 + half * 8 + lane / 4,
          warp_n + j * 8 + lane % 4 * 2,
          acc[i][j][2 * half],
          acc[i][j][2 * half + 1]);
      }
    }
  }
}

// c(r) = a(r) op(w(e)) + bias(e). B is Major::k for w (L, N, K), Major::lanes for w (L, K, N).
template <class T, class C, Major B>
__global__ void __launch_bounds__(mma_threads)
    grouped_rows_mma_kernel(GroupedProduct<T, T, C> p, TileOrder order)
{
  extern __shared__ __align__(128) unsigned char mma_shared[];
  auto const at    = order(index_t{blockIdx.x});
  auto const tile  = find_row_tile(p.groups, at.row, mma_tuning.rows);
  index_t const n0 = at.column * mma_tuning.columns;
  if (tile.expert < 0) { return; }

  MmaOperand<T, Major::k> a{p.a, tile.m0, tile.m1, 0, p.k, {}};
  StoredRows<T> w = p.b;
  w.base += index_t{tile.expert} * p.w_rows * p.b.stride;
  MmaOperand<T, B> b{w, n0, p.n, 0, p.k, {}};
  float acc[4][8][4] = {};
  mma_tile(a, b, 0, p.k, mma_shared, acc);

  for_each_pair(acc, [&](int i, int j, float x0, float x1) {
    index_t const r = tile.m0 + i, n = n0 + j;
    if (r >= tile.m1 || n >= p.n) { return; }
    if (p.bias != nullptr) {
      x0 += static_cast<float>(p.bias[tile.expert * p.n + n]);
      x1 += static_cast<float>(p.bias[tile.expert * p.n + n + 1]);
    }
    C* const out = p.c + r * p.n + n;
    out[0]       = static_cast<C>(x0);
    out[1]       = static_cast<C>(x1);
  });
}

// dw(e) (M, N) += sum over rows of e of a(r) b(r)^T
template <class T, class C>
__global__ void __launch_bounds__(mma_threads)
    grouped_weights_mma_kernel(GroupedProduct<T, T, C> p, TileOrder order)
{
  extern __shared__ __align__(128) unsigned char mma_shared[];
  Id const e          = p.groups.first + static_cast<Id>(blockIdx.y);
  index_t const begin = p.groups.begin(e), end = p.groups.end(e);
  if (begin == end) { return; }
  auto const at    = order(index_t{blockIdx.x});
  index_t const m0 = at.row * mma_tuning.rows, n0 = at.column * mma_tuning.columns;

  MmaOperand<T, Major::lanes> a{p.a, m0, p.m, begin, end, {}};
  MmaOperand<T, Major::lanes> b{p.b, n0, p.n, begin, end, {}};
  float acc[4][8][4] = {};
  mma_tile(a, b, begin, end, mma_shared, acc);

  for_each_pair(acc, [&](int i, int j, float x0, float x1) {
    index_t const m = m0 + i, n = n0 + j;
    if (m >= p.m || n >= p.n) { return; }
    C* const out = p.c + (index_t{e} * p.m + m) * p.n + n;
    out[0]       = static_cast<C>(static_cast<float>(out[0]) + x0);
    out[1]       = static_cast<C>(static_cast<float>(out[1]) + x1);
  });
}

}  // namespace moe::detail
