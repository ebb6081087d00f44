#pragma once
// From the tensor cores' registers to rows in memory.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/vector.cuh>

namespace moe::detail {

// Four threads of a warp hold the columns of a row of results in pieces of two. Exchanges two of
// four pieces with the thread `Across` lanes away.
template <int Across>
__device__ inline void exchange_pieces(float (&x)[4][2])
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
// The pieces of four blocks of eight columns become all columns of one: of block lane % 4.
__device__ inline void gather_eight(float (&x)[4][2])
{
  exchange_pieces<2>(x);
  exchange_pieces<1>(x);
}

// Eight neighbouring elements of a row.
template <class C>
struct Eight {
  static constexpr int n = Vector16<C>::size;
  Vector16<C> vector[8 / n];

  __device__ C& operator[](int i) { return vector[i / n][i % n]; }
  __device__ C const& operator[](int i) const { return vector[i / n][i % n]; }
};

template <class C>
__device__ Eight<C> load_eight(C const* from)  // aligned to 16 bytes
{
  Eight<C> x;
#pragma unroll
  for (int i = 0; i < 8; i += Eight<C>::n) {
    x.vector[i / Eight<C>::n] = load_16(from + i);
  }
  return x;
}
template <class C>
__device__ void store_eight(Eight<C> const& x, C* to)
{
#pragma unroll
  for (int i = 0; i < 8; i += Eight<C>::n) {
    store_16(to + i, x.vector[i / Eight<C>::n]);
  }
}

// a + x, rounded once.
template <class C, class A>
__device__ Eight<C> sum(Eight<A> const& a, float const (&x)[4][2])
{
  Eight<C> s;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    s[i] = static_cast<C>(static_cast<float>(a[i]) + x[i / 2][i % 2]);
  }
  return s;
}

}  // namespace moe::detail
