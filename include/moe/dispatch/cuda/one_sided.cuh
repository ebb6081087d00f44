#pragma once
// Rows stored into windows of peers on Cuda with 16-byte accesses, several of a lane under way at
// once; a token's row is read once and stored to all ranks that it goes to. StoreTokenRow and
// StoreHomeRow, which store the same bits, stay for what is not aligned.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/comm/cuda/window_signal.cuh>
#include <moe/dispatch/cuda/combine.cuh>
#include <moe/dispatch/one_sided_rows.hpp>
#include <moe/exec/cuda.cuh>
#include <moe/exec/cuda/vector.cuh>

namespace moe::detail {

// Many pieces have a block on each multiprocessor that they are given: beside it there is no room
// for the experts' products, which have the others. Few have smaller blocks on more of them.
struct OneSidedTuning {
  int threads, few_threads;
  int unroll;  // loads of a lane before its first store
};
inline constexpr OneSidedTuning one_sided_tuning{.threads = 1024, .few_threads = 256, .unroll = 4};
inline constexpr int one_sided_piece = one_sided_tuning.unroll * 32;  // 16-byte words of a warp

// The lanes' 16 bytes each of a piece of a row of n words; zeros behind it.
struct RowPiece {
  uint4 v[one_sided_tuning.unroll];

  __device__ void load(uint4 const* source, index_t begin, index_t n)
  {
#pragma unroll
    for (int u = 0; u < one_sided_tuning.unroll; ++u) {
      index_t const i = begin + u * 32 + WarpTeam::lane();
      v[u]            = i < n ? source[i] : uint4{0, 0, 0, 0};
    }
  }
  __device__ void store(uint4* into, index_t begin, index_t n) const
  {
#pragma unroll
    for (int u = 0; u < one_sided_tuning.unroll; ++u) {
      index_t const i = begin + u * 32 + WarpTeam::lane();
      if (i < n) { store_uint4(into + i, v[u]); }
    }
  }
};

// A warp's pieces of rows of n words: few rows, too, are spread over all multiprocessors. Divides
// at the start alone.
class WarpPieces {
 public:
  __device__ explicit WarpPieces(index_t n)
      : of_row_{static_cast<unsigned>((n + one_sided_piece - 1) / one_sided_piece)}
  {
    unsigned const warps = blockDim.x / 32;
    unsigned const first = blockIdx.x * warps + threadIdx.x / 32;
    unsigned const all   = gridDim.x * warps;
    row_                 = first / of_row_;
    piece_               = first % of_row_;
    step_rows_           = all / of_row_;
    step_pieces_         = all % of_row_;
  }
  [[nodiscard]] __device__ index_t row() const { return row_; }
  [[nodiscard]] __device__ index_t begin() const { return index_t{piece_} * one_sided_piece; }
  __device__ void next()
  {
    row_ += step_rows_;
    piece_ += step_pieces_;
    if (piece_ >= of_row_) {
      piece_ -= of_row_;
      ++row_;
    }
  }

 private:
  unsigned of_row_, piece_, step_rows_, step_pieces_;
  index_t row_;
};

// The lanes find where the row goes for 32 choices at once and pass it round.
template <class T>
__global__ void __launch_bounds__(one_sided_tuning.threads)
    store_rows_kernel(StoreTokenRow<T, Cuda> const row, WindowSignal const signal)
{
  constexpr unsigned all = 0xffffffffu;
  index_t const n        = row.to.at.width * index_t{sizeof(T)} / 16;
  for (WarpPieces at(n); at.row() < row.tokens.extent(0); at.next()) {
    index_t const t    = at.row();
    auto const* source = reinterpret_cast<uint4 const*>(row.tokens.data_handle()) + t * n;
    RowPiece piece;
    bool loaded = row.chunks == 1;  // nearly all rows go: under way while it is found out where to
    if (loaded) { piece.load(source, at.begin(), n); }
    index_t const end = row.assignments.end(t);
    for (index_t first = row.assignments.begin(t); first < end; first += 32) {
      index_t const a      = first + WarpTeam::lane();
      T* const mine        = a < end ? row.target(t, a) : nullptr;
      unsigned const going = __ballot_sync(all, mine != nullptr);
      if (going != 0 && !loaded) {
        piece.load(source, at.begin(), n);
        loaded = true;
      }
      for (unsigned left = going; left != 0; left &= left - 1) {
        auto const into =
            __shfl_sync(all, reinterpret_cast<unsigned long long>(mine), __ffs(left) - 1);
        piece.store(reinterpret_cast<uint4*>(into), at.begin(), n);
      }
    }
  }
  signal_when_stored(signal);
}

// How many rows there are only the device knows.
template <class T>
__global__ void __launch_bounds__(one_sided_tuning.threads)
    store_rows_kernel(StoreHomeRow<T, Cuda> const row, WindowSignal const signal)
{
  index_t const n    = row.to.at.width * index_t{sizeof(T)} / 16;
  index_t const from = row.offsets(row.first), rows = row.offsets(row.last) - from;
  for (WarpPieces at(n); at.row() < rows; at.next()) {
    index_t const r = from + at.row();
    RowPiece piece;
    piece.load(reinterpret_cast<uint4 const*>(row.rows.data_handle()) + r * n, at.begin(), n);
    __syncwarp();  // so that the loads above begin before where to is known
    piece.store(reinterpret_cast<uint4*>(row.target(r)), at.begin(), n);
  }
  signal_when_stored(signal);
}

// Rows that a kernel of 16-byte words stores; those of windows are as wide, and aligned.
template <class T>
View<T const, 2, Cuda> rows_stored(StoreTokenRow<T, Cuda> const& row)
{
  return row.tokens;
}
template <class T>
View<T const, 2, Cuda> rows_stored(StoreHomeRow<T, Cuda> const& row)
{
  return row.rows;
}
template <class T>
bool stores_words(View<T const, 2, Cuda> rows)
{
  return !rows.empty() && rows_aligned_16(rows);
}

template <class T, template <class, class> class RowT>
MOE_HIDDEN void launch_stores(Cuda const& exec,
                              RowT<T, Cuda> const& row,
                              WindowSignal const& signal)
{
  auto const rows      = rows_stored(row);  // as many as there can be
  index_t const words  = rows.extent(1) * index_t{sizeof(T)} / 16;
  index_t const pieces = rows.extent(0) * ((words + one_sided_piece - 1) / one_sided_piece);
  index_t const most   = exec.multiprocessors();
  bool const few       = pieces < most * (one_sided_tuning.threads / 32);
  int const threads    = few ? one_sided_tuning.few_threads : one_sided_tuning.threads;
  index_t const blocks = few ? (pieces * 32 + threads - 1) / threads : most;
  void (*const kernel)(RowT<T, Cuda>, WindowSignal) = &store_rows_kernel<T>;
  launch(kernel,
         "moe::OneSidedExchange",
         dim3(static_cast<unsigned>(blocks)),
         dim3(static_cast<unsigned>(threads)),
         0,
         exec.stream(),
         row,
         signal);
}

template <class T>
MOE_HIDDEN void store_rows(Cuda const& exec, StoreTokenRow<T, Cuda> const& row)
{
  if (stores_words(row.tokens)) { return launch_stores<T>(exec, row, {}); }
  exec.for_each_row(row.tokens.extent(0), row);
}
template <class T>
MOE_HIDDEN void store_rows(Cuda const& exec, StoreHomeRow<T, Cuda> const& row)
{
  if (stores_words(row.rows)) { return launch_stores<T>(exec, row, {}); }
  exec.for_each_row(row.teams, row);
}
// In one launch where that can be.
template <class T, template <class, class> class RowT>
MOE_HIDDEN void store_rows(
    Cuda const& exec, RowT<T, Cuda> const& row, Window<Cuda> const& window, int channel, bool waits)
{
  if (stores_words(rows_stored(row))) {
    auto const signal = waits ? window.signal_and_wait_of_kernel(exec, channel)
                              : window.signal_of_kernel(exec, channel);
    if (signal) { return launch_stores<T>(exec, row, *signal); }
  }
  store_rows(exec, row);
  if (waits) { return window.signal_and_wait(exec, channel); }
  window.signal(exec, channel);
}

}  // namespace moe::detail
