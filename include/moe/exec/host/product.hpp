#pragma once
// Host's own products: tiles of results, of one matrix or of one per expert, shared among threads.
// A tile is summed over all of K by one task in the accumulator type and rounded once. Since every
// element is one chain over ascending k (micro_kernel.hpp), tile sizes, threads and neighbours do
// not show in its bits.
#include <algorithm>

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

// What the largest tile of accumulator type S needs: its sums, and both operands packed.
template <class S>
constexpr std::size_t product_scratch_bytes()
{
  auto const& tuning    = product_tuning;
  index_t const columns = tuning.columns_bytes / static_cast<index_t>(sizeof(S));
  return static_cast<std::size_t>(tuning.rows * columns + (tuning.rows + columns) * product_depth) *
         sizeof(S);
}
static_assert(product_scratch_bytes<float>() <= Host::scratch_bytes);
static_assert(product_scratch_bytes<double>() <= Host::scratch_bytes);

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

// The tiles of a call in order, part by part; row blocks innermost, so that tiles that follow each
// other read the same weights.
template <class S>
class TileWalk {
 public:
  TileWalk(ProductCall<S> const& call, index_t rows, index_t columns)
      : call_{&call},
        rows_{rows},
        columns_{columns},
        column_blocks_{blocks_of(call.n, columns)},
        here_{call.parts(0)}
  {
  }
  [[nodiscard]] index_t tiles() const
  {
    index_t n = 0;
    for (index_t e = 0; e < call_->parts.count; ++e) {
      n += tiles_of(call_->parts(e));
    }
    return n;
  }
  // The tile at `index`, which never falls from call to call.
  void compute(index_t index, S* scratch)
  {
    for (index_t n = tiles_of(here_); index - before_ >= n; n = tiles_of(here_)) {
      before_ += n;
      here_ = call_->parts(++part_);
    }
    index_t const blocks = blocks_of(here_.m, rows_);
    index_t const each   = even_block(here_.m, rows_, MicroTile<S>::rows);
    index_t const i0     = (index - before_) % blocks * each;
    index_t const j0     = (index - before_) / blocks * columns_;
    product_tile(*call_,
                 here_,
                 i0,
                 std::min(each, here_.m - i0),
                 j0,
                 std::min(columns_, call_->n - j0),
                 scratch);
  }

 private:
  [[nodiscard]] index_t tiles_of(ProductPart const& part) const
  {
    bool const nothing = part.k == 0 && call_->c.add;
    return nothing ? 0 : blocks_of(part.m, rows_) * column_blocks_;
  }

  ProductCall<S> const* call_;
  index_t rows_, columns_, column_blocks_;
  index_t part_ = 0, before_ = 0;  // the current part, and the tiles before it
  ProductPart here_;
};

// Allocates nothing: tiles are bounded, and each worker of a Host has scratch memory for one.
template <class S>
void run_products(Host const& exec, ProductCall<S> const& p)
{
  using Tile         = MicroTile<S>;
  auto const& tuning = product_tuning;
  index_t const size = sizeof(S);
  if (p.parts.count == 0 || p.n == 0) { return; }

  index_t work = 0, longest = 0, most_m = 0;  // work: multiply-adds per column
  for (index_t e = 0; e < p.parts.count; ++e) {
    ProductPart const part = p.parts(e);
    work += part.m * part.k;
    longest = std::max(longest, part.k);
    most_m  = std::max(most_m, part.m);
  }
  // Smaller tiles pack more than large ones: only as small as threads need to end together.
  index_t m = even_block(most_m, tuning.rows / Tile::rows * Tile::rows, Tile::rows);
  index_t n =
      even_block(p.n, tuning.columns_bytes / size / Tile::columns * Tile::columns, Tile::columns);
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

  TileWalk<S> const walk(p, m, n);
  index_t const tiles = walk.tiles();
  index_t const tasks = alone ? std::min<index_t>(tiles, 1) : std::min(tiles, 4 * shares);
  exec.for_each_task(tasks, [&](int worker, index_t task) {
    auto mine       = walk;
    S* const memory = static_cast<S*>(exec.scratch(worker));
    for (index_t tile = tiles * task / tasks; tile < tiles * (task + 1) / tasks; ++tile) {
      mine.compute(tile, memory);
    }
  });
}

}  // namespace moe::detail
