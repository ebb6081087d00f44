#pragma once
// Rows stored into windows of peers on Cuda with 16-byte accesses, several of a lane under way at
// once; a token's row is read once and stored to all ranks that it goes to. StoreTokenRow and
// StoreHomeRow, which store the same bits, stay for what is not aligned.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/dispatch/one_sided_rows.hpp>
#include <moe/exec/cuda.cuh>
#include <moe/exec/cuda/vector.cuh>

namespace moe::detail {

inline constexpr int one_sided_unroll = 4;  // loads of a lane before its first store

// The lanes' next 16 bytes each of a row of n; zeros behind it.
struct RowPiece {
  uint4 v[one_sided_unroll];

  __device__ void load(uint4 const* source, index_t begin, index_t n, int lane, int lanes)
  {
#pragma unroll
    for (int u = 0; u < one_sided_unroll; ++u) {
      index_t const i = begin + u * lanes + lane;
      v[u]            = i < n ? source[i] : uint4{0, 0, 0, 0};
    }
  }
  __device__ void store(uint4* into, index_t begin, index_t n, int lane, int lanes) const
  {
#pragma unroll
    for (int u = 0; u < one_sided_unroll; ++u) {
      index_t const i = begin + u * lanes + lane;
      if (i < n) { into[i] = v[u]; }
    }
  }
};

// A warp per token. Its lanes find where the row goes for 32 choices at once and pass it round.
template <class T>
struct StoreTokenVectorsRow {
  StoreTokenRow<T, Cuda> row;

  template <Team G>
  __device__ void operator()(G team, index_t t) const
  {
    static_assert(std::same_as<G, WarpTeam>);
    constexpr unsigned all = 0xffffffffu;
    index_t const n        = row.to.at.width * index_t{sizeof(T)} / 16;
    auto const* const source =
        reinterpret_cast<uint4 const*>(row.tokens.data_handle() + t * row.to.at.width);
    index_t const end = row.assignments.end(t);
    for (index_t first = row.assignments.begin(t); first < end; first += team.size()) {
      index_t const a      = first + team.lane();
      T* const mine        = a < end ? row.target(t, a) : nullptr;
      unsigned const going = __ballot_sync(all, mine != nullptr);
      if (going == 0) { continue; }
      for (index_t begin = 0; begin < n; begin += one_sided_unroll * team.size()) {
        RowPiece piece;
        piece.load(source, begin, n, team.lane(), team.size());
        for (unsigned left = going; left != 0; left &= left - 1) {
          auto const into =
              __shfl_sync(all, reinterpret_cast<unsigned long long>(mine), __ffs(left) - 1);
          piece.store(reinterpret_cast<uint4*>(into), begin, n, team.lane(), team.size());
        }
      }
    }
  }
};

// Some warps take turns at the rows.
template <class T>
struct StoreHomeVectorsRow {
  StoreHomeRow<T, Cuda> row;

  template <Team G>
  __device__ void operator()(G team, index_t i) const
  {
    index_t const n    = row.to.at.width * index_t{sizeof(T)} / 16;
    index_t const last = row.offsets(row.last);
    for (index_t r = row.offsets(row.first) + i; r < last; r += row.teams) {
      auto const* const source =
          reinterpret_cast<uint4 const*>(row.rows.data_handle() + r * row.to.at.width);
      auto* const into = reinterpret_cast<uint4*>(row.target(r));
      for (index_t begin = 0; begin < n; begin += one_sided_unroll * team.size()) {
        RowPiece piece;
        piece.load(source, begin, n, team.lane(), team.size());
        piece.store(into, begin, n, team.lane(), team.size());
      }
    }
  }
};

// Rows of windows are as wide, and windows are aligned.
template <class T>
MOE_HIDDEN void store_token_rows(Cuda const& exec, StoreTokenRow<T, Cuda> const& row)
{
  if (rows_aligned_16(row.tokens)) {
    exec.for_each_row(row.tokens.extent(0), StoreTokenVectorsRow<T>{row});
  } else {
    exec.for_each_row(row.tokens.extent(0), row);
  }
}
template <class T>
MOE_HIDDEN void store_home_rows(Cuda const& exec, StoreHomeRow<T, Cuda> const& row)
{
  if (rows_aligned_16(row.rows)) {
    exec.for_each_row(row.teams, StoreHomeVectorsRow<T>{row});
  } else {
    exec.for_each_row(row.teams, row);
  }
}

}  // namespace moe::detail
