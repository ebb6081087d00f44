#pragma once
// Host's own products: tiles of results, of one matrix or of one per expert, shared among threads.
// A tile is summed over all of K by one task in the accumulator type and rounded once. Since every
// element is one chain over ascending k (micro_kernel.hpp), tile sizes, threads and neighbours do
// not show in its bits.
#include <algorithm>

#include <moe/core/tensor.hpp>
#include <moe/exec/gemm.hpp>
#include <moe/exec/host.hpp>
#include <moe/exec/host/micro_kernel.hpp>
#include <moe/exec/host/pack.hpp>
#include <moe/exec/host/product_result.hpp>

namespace moe::detail {

struct ProductTuning {
  index_t rows;           // of a tile at most, and where threads want more tiles
  index_t columns_bytes;  // in bytes of the accumulator type
  index_t least_rows;
  index_t least_columns_bytes;
  index_t tasks_per_thread;  // so that threads end together
  index_t alone;             // multiply-adds that are not worth waking a thread for
};
inline constexpr ProductTuning product_tuning{.rows                = 256,
                                              .columns_bytes       = 2048,
                                              .least_rows          = 32,
                                              .least_columns_bytes = 512,
                                              .tasks_per_thread    = 4,
                                              .alone               = 1 << 19};

// One of the products of a call: its extents, and its first rows in a, b, the result and the bias.
struct ProductPart {
  index_t m, k;
  index_t a, b, c, bias;
};

// All products of a call: one, or one for each expert, whose rows are the lanes of a (c(r) = ...)
// or the k's of both (dw(e) += ...).
struct ProductParts {
  enum Kind { one, rows, weights };
  Kind kind;
  index_t count;
  index_t m, k;    // as far as they are the same in all parts
  index_t w_rows;  // stored rows of each expert's weight
  Id const* offsets = nullptr;
  Id const* counts  = nullptr;
  index_t first     = 0;

  [[nodiscard]] ProductPart operator()(index_t part) const
  {
    if (kind == one) { return {m, k, 0, 0, 0, 0}; }
    index_t const e     = first + part;
    index_t const begin = offsets[e];
    index_t const n     = counts != nullptr ? index_t{counts[e]} : offsets[e + 1] - begin;
    if (kind == rows) { return {n, k, begin, e * w_rows, begin, e}; }
    return {m, n, begin, begin, e * w_rows, 0};
  }
};

template <class S>
struct ProductCall {
  Operand<S> a, b;
  ProductResult<S> c;
  index_t n;
  ProductParts parts;
};

constexpr index_t blocks_of(index_t n, index_t size)
{
  return (n + size - 1) / size;
}
constexpr index_t rounded_up(index_t n, index_t to)
{
  return blocks_of(n, to) * to;
}

// Cuts n into as few blocks of at most `most` as there must be, of about the same size.
constexpr index_t even_block(index_t n, index_t most, index_t to)
{
  return n == 0 ? to : rounded_up(blocks_of(n, blocks_of(n, most)), to);
}

// One tile: rows [i0, i0 + rows) and columns [j0, j0 + columns) of a part.
template <class S>
void product_tile(ProductCall<S> const& p,
                  ProductPart const& part,
                  index_t i0,
                  index_t rows,
                  index_t j0,
                  index_t columns,
                  S* scratch)
{
  using Tile               = MicroTile<S>;
  index_t const a_panels   = blocks_of(rows, Tile::rows);
  index_t const b_panels   = blocks_of(columns, Tile::columns);
  S* const sum             = scratch;  // (b_panels, a_panels, Tile::rows, Tile::columns)
  S* const b_pack          = sum + a_panels * b_panels * Tile::size;
  index_t const depth_most = std::min(part.k, product_depth);
  S* const a_pack          = b_pack + b_panels * Tile::columns * depth_most;
  if (part.k == 0) { std::fill_n(sum, a_panels * b_panels * Tile::size, S{}); }
  for (index_t k = 0; k < part.k; k += product_depth) {
    index_t const depth = std::min(product_depth, part.k - k);
    auto const pack     = [&](Operand<S> const& x, index_t row, index_t lane, index_t n, S* out) {
      x.rows_are_lanes ? x.pack(x, row + lane, k, n, depth, out)
                       : x.pack(x, row + k, lane, n, depth, out);
    };
    pack(p.a, part.a, i0, rows, a_pack);
    pack(p.b, part.b, j0, columns, b_pack);
    for (index_t j = 0; j < b_panels; ++j) {
      for (index_t i = 0; i < a_panels; ++i) {
        micro_kernel(depth,
                     a_pack + i * Tile::rows * depth,
                     b_pack + j * Tile::columns * depth,
                     k > 0,
                     sum + (j * a_panels + i) * Tile::size);
      }
    }
  }
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < b_panels; ++j) {
      index_t const column = j * Tile::columns;
      index_t const n      = std::min<index_t>(Tile::columns, columns - column);
      S* const from =
          sum + (j * a_panels + i / Tile::rows) * Tile::size + i % Tile::rows * Tile::columns;
      if (p.c.bias != nullptr) { p.c.add_bias(p.c.bias, part.bias * p.n + j0 + column, n, from); }
      p.c.store(p.c.base, (part.c + i0 + i) * p.n + j0 + column, n, from, p.c.add);
    }
  }
}

// `most` bounds m and k of any part, as known without reading the offsets: scratch memory of a size
// that does not change with the loads is found in the pool again.
template <class S>
void run_products(Host const& exec, ProductCall<S> const& p, index_t most_m, index_t most_k)
{
  using Tile         = MicroTile<S>;
  auto const& tuning = product_tuning;
  index_t const size = sizeof(S);
  index_t const m_most =
      std::min(rounded_up(most_m, Tile::rows), tuning.rows / Tile::rows * Tile::rows);
  index_t const n_most = std::min(rounded_up(p.n, Tile::columns),
                                  tuning.columns_bytes / size / Tile::columns * Tile::columns);
  index_t const k_most = std::min(most_k, product_depth);
  if (p.parts.count == 0 || m_most == 0 || n_most == 0) { return; }

  index_t work = 0, longest = 0;  // multiply-adds per column
  for (index_t e = 0; e < p.parts.count; ++e) {
    ProductPart const part = p.parts(e);
    work += part.m * part.k;
    longest = std::max(longest, part.k);
  }
  // Smaller tiles pack more than large ones: only as small as threads need to end together.
  index_t m = m_most, n = even_block(p.n, n_most, Tile::columns);
  index_t const shares = exec.threads() * tuning.tasks_per_thread;
  bool const alone     = exec.threads() == 1 || work * p.n <= tuning.alone;
  while (!alone && m * n * longest > work * p.n / shares) {
    if (2 * m > n && m / 2 >= tuning.least_rows) {
      m = rounded_up(m / 2, Tile::rows);
    } else if (n / 2 >= tuning.least_columns_bytes / size) {
      n = rounded_up(n / 2, Tile::columns);
    } else {
      break;
    }
  }

  Tensor<index_t, 1, Host> first_block(exec, p.parts.count + 1);  // of rows, of each part
  index_t* const first = first_block.view().data_handle();
  first[0]             = 0;
  for (index_t e = 0; e < p.parts.count; ++e) {
    ProductPart const part = p.parts(e);
    bool const nothing     = part.k == 0 && p.c.add;
    first[e + 1]           = first[e] + (nothing ? 0 : blocks_of(part.m, m));
  }
  index_t const column_blocks = blocks_of(p.n, n);
  index_t const tiles         = first[p.parts.count] * column_blocks;
  index_t const tasks         = alone ? 1 : tiles;
  Tensor<S, 2, Host> scratch(
      exec, exec.threads(), rounded_up(m_most * n_most + (m_most + n_most) * k_most, 64 / size));

  exec.for_each_task(tasks, [&](int worker, index_t task) {
    for (index_t tile = tiles * task / tasks; tile < tiles * (task + 1) / tasks; ++tile) {
      // Row blocks innermost: tiles that follow each other read the same weights.
      index_t const* const after =
          std::upper_bound(first, first + p.parts.count + 1, tile / column_blocks);
      index_t const e         = after - first - 1;
      ProductPart const part  = p.parts(e);
      index_t const blocks    = first[e + 1] - first[e];
      index_t const in_part   = tile - first[e] * column_blocks;
      index_t const rows_each = even_block(part.m, m, Tile::rows);
      index_t const i0        = in_part % blocks * rows_each;
      index_t const j0        = in_part / blocks * n;
      product_tile(p,
                   part,
                   i0,
                   std::min(rows_each, part.m - i0),
                   j0,
                   std::min(n, p.n - j0),
                   &scratch.view()(worker, 0));
    }
  });
}

}  // namespace moe::detail
