#pragma once
// The innermost loop of Host's own products: one register tile of the result, written with vector
// extensions so that every compiler gives the same instructions at -O2 (the micro-kernel of Goto &
// van de Geijn 2008, in the form of BLIS).
#include <cstring>
#include <utility>

#include <moe/core/view.hpp>

namespace moe::detail {

struct MicroTuning {
  int vector_bytes;
  int rows;     // of the tile
  int vectors;  // side by side in each of its rows
};
#if defined(__AVX512F__)
inline constexpr MicroTuning micro_tuning{.vector_bytes = 64, .rows = 8, .vectors = 2};
#elif defined(__AVX__)
inline constexpr MicroTuning micro_tuning{.vector_bytes = 32, .rows = 6, .vectors = 2};
#else
inline constexpr MicroTuning micro_tuning{.vector_bytes = 16, .rows = 4, .vectors = 2};
#endif

template <class S>
struct MicroTile {
  static constexpr int lanes   = micro_tuning.vector_bytes / static_cast<int>(sizeof(S));
  static constexpr int rows    = micro_tuning.rows;
  static constexpr int vectors = micro_tuning.vectors;
  static constexpr int columns = lanes * vectors;
  static constexpr int size    = rows * columns;
  typedef S Vector __attribute__((vector_size(micro_tuning.vector_bytes)));
};

// tile (rows, columns) = or += sum_k a(k) (rows) b(k)^T (columns). Each element is one chain of
// multiply-adds over ascending k, so a sum that is cut into blocks of k has the same bits.
// Indices are constants (not loops) because g++ keeps arrays in registers at -O2 only then.
template <class S, int... Accumulator, int... Column>
void micro_kernel(std::integer_sequence<int, Accumulator...>,
                  std::integer_sequence<int, Column...>,
                  index_t depth,
                  S const* a,  // (depth, rows)
                  S const* b,  // (depth, columns)
                  bool add,
                  S* tile)
{
  using Tile   = MicroTile<S>;
  using Vector = typename Tile::Vector;
  Vector sum[sizeof...(Accumulator)];
  if (add) {
    (std::memcpy(&sum[Accumulator], tile + Accumulator * Tile::lanes, sizeof(Vector)), ...);
  } else {
    ((sum[Accumulator] = Vector{}), ...);
  }
  for (index_t k = 0; k < depth; ++k) {
    Vector column[sizeof...(Column)];
    (std::memcpy(&column[Column], b + Column * Tile::lanes, sizeof(Vector)), ...);
    ((sum[Accumulator] += a[Accumulator / Tile::vectors] * column[Accumulator % Tile::vectors]),
     ...);
    a += Tile::rows;
    b += Tile::columns;
  }
  (std::memcpy(tile + Accumulator * Tile::lanes, &sum[Accumulator], sizeof(Vector)), ...);
}

template <class S>
void micro_kernel(index_t depth, S const* a, S const* b, bool add, S* tile)
{
  using Tile = MicroTile<S>;
  micro_kernel(std::make_integer_sequence<int, Tile::rows * Tile::vectors>{},
               std::make_integer_sequence<int, Tile::vectors>{},
               depth,
               a,
               b,
               add,
               tile);
}

}  // namespace moe::detail
