#pragma once
// Wires on Cuda: rows encoded and decoded with accesses of 16 bytes on the wider side, the same
// bits as the wires' own row functions, which stay for what is not aligned.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/dispatch/cuda/gather_rows.cuh>
#include <moe/dispatch/wire_rows.hpp>

namespace moe::detail {

inline constexpr int wire_unroll = 4;  // loads of a lane before what is made of the first

// N neighbouring numbers of 1 to 4 bytes, N of them at once.
template <int N, class T>
__device__ Vector<T, N> load_neighbours(T const* from)
{
  return *reinterpret_cast<Vector<T, N> const*>(from);
}

// use(d, load(d)) for every N-th column d < D of a row, neighbouring lanes taking neighbouring
// ones.
template <int N, Team G, class Load, class Use>
__device__ void for_each_vector(G team, index_t D, Load const& load, Use const& use)
{
  for (index_t begin = team.lane() * N; begin < D; begin += wire_unroll * team.size() * N) {
    decltype(load(begin)) v[wire_unroll];
#pragma unroll
    for (int u = 0; u < wire_unroll; ++u) {
      index_t const d = begin + u * team.size() * N;
      if (d < D) { v[u] = load(d); }
    }
#pragma unroll
    for (int u = 0; u < wire_unroll; ++u) {
      index_t const d = begin + u * team.size() * N;
      if (d < D) { use(d, v[u]); }
    }
  }
}

// ---- CastWire

// to (D) = from (D)
template <class To, class From, Team G>
__device__ void cast_row(G team, From const* from, index_t D, To* to)
{
  constexpr int N = 16 / static_cast<int>(sizeof(To) > sizeof(From) ? sizeof(To) : sizeof(From));
  for_each_vector<N>(
      team,
      D,
      [=](index_t d) { return load_neighbours<N>(from + d); },
      [=](index_t d, Vector<From, N> const& v) {
        Vector<To, N> w;
#pragma unroll
        for (int i = 0; i < N; ++i) {
          w[i] = FloatWire::cast<To>(v[i]);
        }
        *reinterpret_cast<Vector<To, N>*>(to + d) = w;
      });
}

template <class E, class T>
struct EncodeCastVectorsRow {
  EncodeRow<CastWire<E>, T, Cuda> row;

  template <Team G>
  __device__ void operator()(G team, index_t r) const
  {
    index_t const D         = row.from.columns();
    T const* const source   = row.from.row(r);
    std::byte* const target = row.to.data_handle() + r * row.to.extent(1);
    if (source == nullptr) { return zero_bytes(team, target, 0, row.to.extent(1)); }
    cast_row(team, source, D, reinterpret_cast<E*>(target));
    zero_bytes(team, target, D * index_t{sizeof(E)}, row.to.extent(1));
  }
};

template <class E, class T>
struct DecodeCastVectorsRow {
  DecodeRow<CastWire<E>, T, Cuda> row;

  template <Team G>
  __device__ void operator()(G team, index_t r) const
  {
    std::byte const* const source = row.from.data_handle() + r * row.from.extent(1);
    index_t const D               = row.to.extent(1);
    cast_row(team, reinterpret_cast<E const*>(source), D, row.to.data_handle() + r * D);
  }
};

// ---- Float8Wire

// A pair of codes, the first in the lower byte: one instruction where there is one.
__device__ inline std::uint32_t float8_pair(float first, float second)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  std::uint16_t pair = 0;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return float8_bits(first) | (static_cast<std::uint32_t>(float8_bits(second)) << 8);
#endif
}
__device__ inline float2 float8_values(std::uint32_t pair)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  std::uint32_t halves = 0;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<std::uint16_t>(pair)));
  return {half_value(static_cast<std::uint16_t>(halves & 0xffffu)),
          half_value(static_cast<std::uint16_t>(halves >> 16))};
#else
  return {float8_value(static_cast<std::uint8_t>(pair & 0xffu)),
          float8_value(static_cast<std::uint8_t>((pair >> 8) & 0xffu))};
#endif
}

// A lane has 16 bytes of a block's 128 columns, so `lanes` neighbouring lanes share a block.
template <class T>
struct EncodeFloat8VectorsRow {
  static constexpr int N     = Vector16<T>::size;
  static constexpr int lanes = static_cast<int>(Float8Wire::block) / N;
  static_assert(lanes <= 32 && N % 4 == 0);
  EncodeRow<Float8Wire, T, Cuda> row;

  template <Team G>
  __device__ void operator()(G team, index_t r) const
  {
    index_t const D         = row.from.columns();
    T const* const source   = row.from.row(r);
    std::byte* const target = row.to.data_handle() + r * row.to.extent(1);
    if (source == nullptr) { return zero_bytes(team, target, 0, row.to.extent(1)); }
    float* const scales = reinterpret_cast<float*>(target + Float8Wire::scales_at(D));
    for (index_t begin = 0; begin < D; begin += wire_unroll * team.size() * N) {
      Vector16<T> v[wire_unroll];
#pragma unroll
      for (int u = 0; u < wire_unroll; ++u) {
        index_t const d = begin + (u * team.size() + team.lane()) * N;
        v[u]            = d < D ? load_16(source + d) : Vector16<T>{};
      }
#pragma unroll
      for (int u = 0; u < wire_unroll; ++u) {
        index_t const d = begin + (u * team.size() + team.lane()) * N;
        vector(v[u], d, D, target, scales);
      }
    }
    Float8Wire::zero_padding<T>(team, D, target);
  }

 private:
  // All lanes of the warp come here together.
  __device__ static void vector(
      Vector16<T> const& v, index_t d, index_t D, std::byte* target, float* scales)
  {
    // |x| of floats are ordered as their bits are.
    std::uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      largest = max(largest, magnitude_bits(static_cast<float>(v[i])));
    }
    largest            = max_of_block(largest);
    bool const special = __any_sync(~0u, largest >= 0x7f800000u) != 0;
    if (special) {  // without the infinities and NaN
      largest = 0;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        std::uint32_t const m = magnitude_bits(static_cast<float>(v[i]));
        largest               = m < 0x7f800000u ? max(largest, m) : largest;
      }
      largest = max_of_block(largest);
    }
    float const scale   = Float8Wire::scale_of(__uint_as_float(largest));
    float const inverse = 1.f / scale;
    Vector<std::uint32_t, N / 4> codes;
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      float x[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float const value = static_cast<float>(v[i + j]);
        x[j]              = value * inverse;
        if (special && !Float8Wire::finite(value)) { x[j] = __uint_as_float(0x7fffffffu); }
      }
      codes[i / 4] = float8_pair(x[0], x[1]) | (float8_pair(x[2], x[3]) << 16);
    }
    if (d >= D) { return; }
    *reinterpret_cast<Vector<std::uint32_t, N / 4>*>(target + d) = codes;
    if (d % Float8Wire::block == 0) { scales[d / Float8Wire::block] = scale; }
  }
  __device__ static std::uint32_t magnitude_bits(float x)
  {
    return __float_as_uint(x) & 0x7fffffffu;
  }
  __device__ static std::uint32_t max_of_block(std::uint32_t m)
  {
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2) {
      m = max(m, __shfl_xor_sync(~0u, m, step));
    }
    return m;
  }
};

template <class T>
struct DecodeFloat8VectorsRow {
  static constexpr int N = Vector16<T>::size;
  DecodeRow<Float8Wire, T, Cuda> row;

  template <Team G>
  __device__ void operator()(G team, index_t r) const
  {
    struct Scaled {
      Vector<std::uint32_t, N / 4> codes;
      float scale;
    };
    index_t const D               = row.to.extent(1);
    std::byte const* const source = row.from.data_handle() + r * row.from.extent(1);
    float const* const scales = reinterpret_cast<float const*>(source + Float8Wire::scales_at(D));
    T* const target           = row.to.data_handle() + r * D;
    for_each_vector<N>(
        team,
        D,
        [=](index_t d) {
          return Scaled{*reinterpret_cast<Vector<std::uint32_t, N / 4> const*>(source + d),
                        scales[d / Float8Wire::block]};
        },
        [=](index_t d, Scaled const& v) {
          Vector16<T> out;
#pragma unroll
          for (int i = 0; i < N; i += 2) {
            float2 const pair = float8_values(v.codes[i / 4] >> (i % 4 * 8));
            out[i]            = static_cast<T>(pair.x * v.scale);
            out[i + 1]        = static_cast<T>(pair.y * v.scale);
          }
          store_16(target + d, out);
        });
  }
};

// ---- which of them

// Rows on the wire are a multiple of 16 bytes apart.
template <class ByteT>
bool wire_aligned(View<ByteT, 2, Cuda> const& bytes)
{
  return reinterpret_cast<std::uintptr_t>(bytes.data_handle()) % 16 == 0;
}
template <class T>
inline constexpr bool has_wire_vectors = sizeof(T) <= 4;  // not double, which no kernel here has

template <class E, class T>
EncodeCastVectorsRow<E, T> in_vectors(EncodeRow<CastWire<E>, T, Cuda> const& row)
{
  return {row};
}
template <class E, class T>
DecodeCastVectorsRow<E, T> in_vectors(DecodeRow<CastWire<E>, T, Cuda> const& row)
{
  return {row};
}
template <class T>
EncodeFloat8VectorsRow<T> in_vectors(EncodeRow<Float8Wire, T, Cuda> const& row)
{
  return {row};
}
template <class T>
DecodeFloat8VectorsRow<T> in_vectors(DecodeRow<Float8Wire, T, Cuda> const& row)
{
  return {row};
}

template <class WireT, class T>
MOE_HIDDEN void encode_each_row(Cuda const& exec,
                                index_t rows,
                                EncodeRow<WireT, T, Cuda> const& row)
{
  if constexpr (has_wire_vectors<T> && requires { in_vectors(row); }) {
    if (rows_aligned_16(row.from.base) && wire_aligned(row.to)) {
      return exec.for_each_row(rows, in_vectors(row));
    }
  }
  exec.for_each_row(rows, row);
}
template <class WireT, class T>
MOE_HIDDEN void decode_each_row(Cuda const& exec,
                                index_t rows,
                                DecodeRow<WireT, T, Cuda> const& row)
{
  if constexpr (has_wire_vectors<T> && requires { in_vectors(row); }) {
    if (rows_aligned_16(row.to) && wire_aligned(row.from)) {
      return exec.for_each_row(rows, in_vectors(row));
    }
  }
  exec.for_each_row(rows, row);
}

}  // namespace moe::detail
