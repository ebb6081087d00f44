#pragma once
// The grouped products on tensor cores, for Half and BFloat16 on sm_80 and newer. Every element is
// one chain over ascending k, so its bits depend on its own rows and columns alone.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <utility>

#include <moe/exec/cuda/mma_operand.cuh>
#include <moe/exec/cuda/vector.cuh>

namespace moe::detail {

using MmaResults = float[4][8][4];  // of a thread: blocks of 16 x 8, which it shares with its warp

inline constexpr int mma_warp_tile    = 64;
inline constexpr int mma_warp_columns = mma_tuning.columns / mma_warp_tile;
__device__ inline int mma_warp_row()
{
  return static_cast<int>(threadIdx.x) / 32 / mma_warp_columns * mma_warp_tile;
}
__device__ inline int mma_warp_column()
{
  return static_cast<int>(threadIdx.x) / 32 % mma_warp_columns * mma_warp_tile;
}

template <class T>
__device__ void multiply_fragments(MmaFragment const& a, MmaFragment const& b, MmaResults& acc)
{
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      multiply_add<T>(acc[i][2 * j], a[i], b[j][0], b[j][1]);
      multiply_add<T>(acc[i][2 * j + 1], a[i], b[j][2], b[j][3]);
    }
  }
}

// acc += the tile's product over all k. While tensor cores work, the next 16 k's fragments are on
// their way to registers and the next tiles to shared memory.
template <class T, class A, class B>
class MmaPipeline {
 public:
  __device__ MmaPipeline(A& a, B& b, index_t depth, unsigned char* shared)
      : a_{a},
        b_{b},
        memory_{shared_address(shared)},
        a_from_{memory_ + A::fragment_offset(MmaRole::a, mma_warp_row())},
        b_from_{memory_ + A::bytes + B::fragment_offset(MmaRole::b, mma_warp_column())},
        steps_{static_cast<int>((depth + mma_tuning.depth - 1) / mma_tuning.depth)}
  {
  }

  __device__ void run(MmaResults& acc)
  {
    for (int s = 0; s < stages - 1; ++s) {
      copy(s, static_cast<std::uint32_t>(s) * tile);
    }
    writing_ = end - tile;
    next_tile();
    load<0>();
    for (int step = 0; step < steps_; ++step) {
      slices(step, acc, std::make_integer_sequence<int, depth / 16>{});
    }
  }

 private:
  static constexpr int depth = mma_tuning.depth, stages = mma_tuning.stages;
  static constexpr std::uint32_t tile = A::bytes + B::bytes, end = stages * tile;

  __device__ void copy(int step, std::uint32_t to)
  {
    if (step < steps_) {
      a_.copy(memory_ + to);
      b_.copy(memory_ + to + A::bytes);
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
    A::template load<K>(a_from_ + reading_, fa_[K / 16 % 2]);
    B::template load<K>(b_from_ + reading_, fb_[K / 16 % 2]);
  }
  template <int... Slice>
  __device__ void slices(int step, MmaResults& acc, std::integer_sequence<int, Slice...>)
  {
    (slice<Slice>(step, acc), ...);
  }
  template <int Slice>
  __device__ void slice(int step, MmaResults& acc)
  {
    if constexpr (Slice + 1 < depth / 16) {
      load<(Slice + 1) * 16>();
    } else {
      writing_ = reading_;
      reading_ = reading_ + tile == end ? 0 : reading_ + tile;
      next_tile();
      load<0>();  // past the last step: of an old tile, not used
    }
    if constexpr (Slice == 0) { copy(step + stages - 1, writing_); }
    multiply_fragments<T>(fa_[Slice % 2], fb_[Slice % 2], acc);
  }

  A& a_;
  B& b_;
  std::uint32_t memory_, a_from_, b_from_, reading_ = 0, writing_ = 0;
  int steps_;
  MmaFragment fa_[2], fb_[2];
};

// Two of four 2-column pieces with the thread `across` lanes away, so that after across = 2 and 1
// thread q of four has all pieces that were at place q.
template <int Across>
__device__ void exchange_pieces(float (&x)[4][2])
{
  bool const upper = static_cast<int>(threadIdx.x) & Across;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if ((i & Across) != 0) { continue; }
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float& mine            = x[i][c];
      float& other           = x[i | Across][c];
      float const got        = __shfl_xor_sync(~0u, upper ? mine : other, Across);
      (upper ? mine : other) = got;
    }
  }
}

// f(row, column, x) for this thread's results, eight neighbouring columns x at a time.
template <class F>
__device__ void for_each_eight(MmaResults const& acc, F const& f)
{
  int const lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < 8; j += 4) {
        float x[4][2];
#pragma unroll
        for (int p = 0; p < 4; ++p) {
          x[p][0] = acc[i][j + p][2 * half];
          x[p][1] = acc[i][j + p][2 * half + 1];
        }
        exchange_pieces<2>(x);
        exchange_pieces<1>(x);
        f(mma_warp_row() + i * 16 + half * 8 + lane / 4,
          mma_warp_column() + (j + lane % 4) * 8,
          reinterpret_cast<float(&)[8]>(x));
      }
    }
  }
}

// to[0..live) = (add ? to : 0) + x, 16 bytes at a time where `whole`.
template <class C>
__device__ void store_eight(float const (&x)[8], bool add, bool whole, index_t live, C* to)
{
  if (whole) {
    constexpr int n = Vector16<C>::size;
#pragma unroll
    for (int i = 0; i < 8; i += n) {
      Vector16<C> v = add ? load_16(to + i) : Vector16<C>{};
#pragma unroll
      for (int c = 0; c < n; ++c) {
        v[c] = static_cast<C>(add ? static_cast<float>(v[c]) + x[i + c] : x[i + c]);
      }
      store_16(to + i, v);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < live) { to[i] = static_cast<C>(add ? static_cast<float>(to[i]) + x[i] : x[i]); }
    }
  }
}
template <class C>
__device__ bool whole_eights(C const* c, index_t n)
{
  return n % 8 == 0 && reinterpret_cast<std::uintptr_t>(c) % 16 == 0;
}

// c(r) = a(r) op(w(e)) + bias(e). B is Major::k for w (L, N, K), Major::lanes for w (L, K, N).
template <class T, class C, Major B>
__global__ void __launch_bounds__(mma_tuning.threads)
    grouped_rows_mma_kernel(GroupedProduct<T, T, C> p, TileOrder order)
{
  extern __shared__ __align__(128) unsigned char mma_shared[];
  auto const at    = order(index_t{blockIdx.x});
  auto const tile  = find_row_tile(p.groups, at.row, mma_tuning.rows);
  index_t const n0 = at.column * mma_tuning.columns;
  if (tile.expert < 0) { return; }

  StoredRows<T> w = p.b;
  w.base += index_t{tile.expert} * p.w_rows * p.b.stride;
  MmaOperand<T, Major::k, mma_tuning.rows> a(p.a, tile.m0, tile.m1, 0, p.k);
  MmaOperand<T, B, mma_tuning.columns> b(w, n0, p.n, 0, p.k);
  MmaResults acc = {};
  MmaPipeline<T, decltype(a), decltype(b)>(a, b, p.k, mma_shared).run(acc);

  bool const whole = whole_eights(p.c, p.n);
  for_each_eight(acc, [&](int i, int j, float(&x)[8]) {
    index_t const r = tile.m0 + i, n = n0 + j;
    if (r >= tile.m1 || n >= p.n) { return; }
    if (p.bias != nullptr) {
      for (int c = 0; c < 8; ++c) {
        if (n + c < p.n) { x[c] += static_cast<float>(p.bias[tile.expert * p.n + n + c]); }
      }
    }
    store_eight(x, false, whole, p.n - n, p.c + r * p.n + n);
  });
}

// dw(e) (M, N) += sum over rows of e of a(r) b(r)^T
template <class T, class C>
__global__ void __launch_bounds__(mma_tuning.threads)
    grouped_weights_mma_kernel(GroupedProduct<T, T, C> p, TileOrder order)
{
  extern __shared__ __align__(128) unsigned char mma_shared[];
  Id const e          = p.groups.first + static_cast<Id>(blockIdx.y);
  index_t const begin = p.groups.begin(e), end = p.groups.end(e);
  if (begin == end) { return; }
  auto const at    = order(index_t{blockIdx.x});
  index_t const m0 = at.row * mma_tuning.rows, n0 = at.column * mma_tuning.columns;

  MmaOperand<T, Major::lanes, mma_tuning.rows> a(p.a, m0, p.m, begin, end);
  MmaOperand<T, Major::lanes, mma_tuning.columns> b(p.b, n0, p.n, begin, end);
  MmaResults acc = {};
  MmaPipeline<T, decltype(a), decltype(b)>(a, b, end - begin, mma_shared).run(acc);

  bool const whole = whole_eights(p.c, p.n);
  for_each_eight(acc, [&](int i, int j, float(&x)[8]) {
    index_t const m = m0 + i, n = n0 + j;
    if (m >= p.m || n >= p.n) { return; }
    store_eight(x, true, whole, p.n - n, p.c + (index_t{e} * p.m + m) * p.n + n);
  });
}

}  // namespace moe::detail
