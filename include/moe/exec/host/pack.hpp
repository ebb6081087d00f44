#pragma once
// Packing for Host's own products: a block of an operand, in its accumulator type, in the order in
// which the micro-kernel reads it. Edges are filled with zeros, so every tile runs the same code.
#include <algorithm>
#include <cstring>

#include <moe/core/view.hpp>
#include <moe/exec/host/widen.hpp>

namespace moe::detail {

inline constexpr index_t product_depth = 256;  // k that are packed at a time

// An operand is lanes (rows of op(a), columns of op(b)) of K elements each. Its stored rows are the
// lanes, or the k's; row r is found through `index` where there is one, and -1 is a row of zeros.
// The element type is known to `pack` alone, so that the loops around it are compiled once.
template <class S>
struct Operand {
  void const* base;
  index_t columns;
  Id const* index;
  bool rows_are_lanes;
  void (*pack)(Operand const&, index_t row, index_t column, index_t lanes, index_t depth, S* out);
};

template <class T>
inline constexpr T zero_row[product_depth]{};

template <class T, class S>
T const* operand_row(Operand<S> const& from, index_t r)
{
  index_t const i = from.index == nullptr ? r : index_t{from.index[r]};
  return i < 0 ? nullptr : static_cast<T const*>(from.base) + i * from.columns;
}

// out(k) (4 of a row of `stride`) = in[lane][k], for 4 k
template <class S, class T>
inline void transpose_4x4(T const* const* in, index_t k, index_t stride, S* out)
{
  using Vector = typename Four<S>::Vector;
  Vector r[4];
  for (int lane = 0; lane < 4; ++lane) {
    widen_4(in[lane] + k, r[lane]);
  }
  Vector const a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
  Vector const b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  Vector const c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
  Vector const d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  Vector const t[4]{__builtin_shufflevector(a, c, 0, 1, 4, 5),
                    __builtin_shufflevector(a, c, 2, 3, 6, 7),
                    __builtin_shufflevector(b, d, 0, 1, 4, 5),
                    __builtin_shufflevector(b, d, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) {
    std::memcpy(out + i * stride, &t[i], sizeof(Vector));
  }
}

// Stored rows are lanes: out(panel, k, lane) = row(lane)[column + k]
template <class S, class T, int Width>
void pack_lanes(
    Operand<S> const& from, index_t row, index_t column, index_t lanes, index_t depth, S* out)
{
  for (index_t first = 0; first < lanes; first += Width, out += depth * Width) {
    Array<T const*, Width> in;
    for (index_t lane = 0; lane < Width; ++lane) {
      T const* const p = first + lane < lanes ? operand_row<T>(from, row + first + lane) : nullptr;
      in[lane]         = p == nullptr ? zero_row<T> : p + column;
    }
    for (index_t k = 0; k < depth; k += 16) {  // one cache line of each lane, read once
      index_t const end = std::min(k + 16, depth);
      int lane          = 0;
      for (; lane + 4 <= Width; lane += 4) {
        index_t at = k;
        for (; at + 4 <= end; at += 4) {
          transpose_4x4<S>(&in[lane], at, Width, out + at * Width + lane);
        }
        for (; at < end; ++at) {
          for (int i = lane; i < lane + 4; ++i) {
            out[at * Width + i] = widen<S>(in[i][at]);
          }
        }
      }
      for (; lane < Width; ++lane) {
        for (index_t at = k; at < end; ++at) {
          out[at * Width + lane] = widen<S>(in[lane][at]);
        }
      }
    }
  }
}

// Stored rows are k's: out(panel, k, lane) = row(k)[column + lane]
template <class S, class T, int Width>
void pack_depths(
    Operand<S> const& from, index_t row, index_t column, index_t lanes, index_t depth, S* out)
{
  for (index_t k = 0; k < depth; k += 16) {  // few enough rows to be near in all panels
    index_t const end = std::min(k + 16, depth);
    for (index_t first = 0; first < lanes; first += Width) {
      index_t const width = std::min<index_t>(Width, lanes - first);
      for (index_t at = k; at < end; ++at) {
        T const* const in = operand_row<T>(from, row + at);
        S* const to       = out + first * depth + at * Width;
        if (in == nullptr) {
          std::fill_n(to, Width, S{});
        } else if (width == Width) {
          widen_row<Width>(in + column + first, to);
        } else {
          for (index_t lane = 0; lane < Width; ++lane) {
            to[lane] = lane < width ? widen<S>(in[column + first + lane]) : S{};
          }
        }
      }
    }
  }
}

// The operand for panels that are `Width` lanes wide.
template <class S, int Width, class T>
Operand<S> operand(T const* base, index_t columns, Id const* index, bool rows_are_lanes)
{
  return {base,
          columns,
          index,
          rows_are_lanes,
          rows_are_lanes ? &pack_lanes<S, T, Width> : &pack_depths<S, T, Width>};
}

}  // namespace moe::detail
