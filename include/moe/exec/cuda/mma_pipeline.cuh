#pragma once
// A tile's product by mma.sync: sm_80 and newer.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <utility>

#include <moe/exec/cuda/mma_results.cuh>
#include <moe/exec/cuda/operand_copies.cuh>

namespace moe::detail {

struct TileTuning {
  int rows, columns, depth;  // of a block's tile
  int stages;                // tiles of the operands in shared memory, in use or on their way
};
// 96 KiB of shared memory, which a block gets on every GPU from sm_80 on; as wide as registers
// allow, because the second-level cache feeds it. 2 x 4 warps have 64 x 64 results each.
inline constexpr TileTuning mma_tuning{.rows = 128, .columns = 256, .depth = 32, .stages = 4};

// start() for a tile's operands, multiply(), then for_each_eight() for its results; the next
// tile's start() may come before that, so that its copies run meanwhile.
template <class T, Major MajorA, Major MajorB>
class MmaPipeline {
  using A                     = OperandCopies<T, MajorA, mma_tuning.rows, mma_tuning.depth>;
  using B                     = OperandCopies<T, MajorB, mma_tuning.columns, mma_tuning.depth>;
  static constexpr int stages = mma_tuning.stages;
  static constexpr std::uint32_t tile = A::Tile::bytes + B::Tile::bytes;
  static constexpr std::uint32_t end  = stages * tile;

 public:
  static constexpr int shared_bytes = static_cast<int>(end);

  __device__ explicit MmaPipeline(unsigned char* shared)
      : memory_{shared_address(shared)},
        a_from_{memory_ + A::Tile::fragment_offset(MmaRole::a, warp_row())},
        b_from_{memory_ + A::Tile::bytes + B::Tile::fragment_offset(MmaRole::b, warp_column())}
  {
  }

  // Rows [m0, m_end) of op(a), columns [n0, n_end) of op(b), k in [k_begin, k_end).
  __device__ void start(StoredRows<T> const& a,
                        index_t m0,
                        index_t m_end,
                        StoredRows<T> const& b,
                        index_t n0,
                        index_t n_end,
                        index_t k_begin,
                        index_t k_end)
  {
    a_.start(a, m0, m_end, k_begin, k_end);
    b_.start(b, n0, n_end, k_begin, k_end);
    steps_ = static_cast<int>((k_end - k_begin + mma_tuning.depth - 1) / mma_tuning.depth);
    for (int s = 0; s < stages - 1; ++s) {
      copy(s, static_cast<std::uint32_t>(s) * tile);
    }
  }
  __device__ void multiply()
  {
#pragma unroll
    for (auto& blocks : acc_) {
#pragma unroll
      for (auto& block : blocks) {
        block[0] = block[1] = block[2] = block[3] = 0;
      }
    }
    reading_ = 0;
    writing_ = end - tile;
    next_tile();
    load<0>();
    for (int step = 0; step < steps_; ++step) {
      slices(step, std::make_integer_sequence<int, mma_tuning.depth / 16>{});
    }
    __syncthreads();  // all are done with shared memory
  }
  // For this thread's results, eight neighbouring columns x at a time: store(row, column, x, old),
  // where old is what load(row, column) gave, some of it asked for before anything is stored.
  template <class Load, class Store>
  __device__ void for_each_eight(Load const& load, Store const& store) const
  {
    int const lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int const row = warp_row() + i * 16 + lane / 4, column = warp_column() + lane % 4 * 8;
      decltype(load(0, 0)) const old[4] = {load(row, column),
                                           load(row, column + 32),
                                           load(row + 8, column),
                                           load(row + 8, column + 32)};
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        int const half = q / 2, j = q % 2 * 4;
        float x[4][2];
#pragma unroll
        for (int p = 0; p < 4; ++p) {
          x[p][0] = acc_[i][j + p][2 * half];
          x[p][1] = acc_[i][j + p][2 * half + 1];
        }
        gather_eight(x);
        store(row + half * 8, column + j * 8, x, old[q]);
      }
    }
  }

 private:
  static constexpr int warp_tile = 64;
  __device__ static int warp_row()
  {
    return static_cast<int>(threadIdx.x) / 32 / (mma_tuning.columns / warp_tile) * warp_tile;
  }
  __device__ static int warp_column()
  {
    return static_cast<int>(threadIdx.x) / 32 % (mma_tuning.columns / warp_tile) * warp_tile;
  }

  __device__ void copy(int step, std::uint32_t to)
  {
    if (step < steps_) {
      a_.copy(memory_ + to);
      b_.copy(memory_ + to + A::Tile::bytes);
    }
    commit_copies();
  }
  __device__ void next_tile()  // is here, and all threads are done with the one before
  {
    wait_copies<stages - 2>();
    __syncthreads();
  }
  template <int K>
  __device__ void load()
  {
    A::Tile::template load<K>(a_from_ + reading_, fa_[K / 16 % 2]);
    B::Tile::template load<K>(b_from_ + reading_, fb_[K / 16 % 2]);
  }
  template <int... Slice>
  __device__ void slices(int step, std::integer_sequence<int, Slice...>)
  {
    (slice<Slice>(step), ...);
  }
  // 16 k's, while the fragments of the next are on their way to registers.
  template <int Slice>
  __device__ void slice(int step)
  {
    if constexpr (Slice + 1 < mma_tuning.depth / 16) {
      load<(Slice + 1) * 16>();
    } else {
      writing_ = reading_;
      reading_ = reading_ + tile == end ? 0 : reading_ + tile;
      next_tile();
      load<0>();  // past the last step: of an old tile, not used
    }
    if constexpr (Slice == 0) { copy(step + stages - 1, writing_); }
    auto const& a = fa_[Slice % 2];
    auto const& b = fb_[Slice % 2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        multiply_add<T>(acc_[i][2 * j], a[i], b[j][0], b[j][1]);
        multiply_add<T>(acc_[i][2 * j + 1], a[i], b[j][2], b[j][3]);
      }
    }
  }

  A a_;
  B b_;
  std::uint32_t memory_, a_from_, b_from_, reading_ = 0, writing_ = 0;
  int steps_ = 0;
  MmaFragment fa_[2], fb_[2];
  float acc_[4][8][4];  // blocks of 16 x 8, which a warp shares
};

}  // namespace moe::detail
