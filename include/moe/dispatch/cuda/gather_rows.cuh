#pragma once
// gather_rows() on Cuda with 16-byte accesses, several of a lane under way at once. PackRow, which
// copies the same bits, stays for what is not aligned.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/dispatch/travel_rows.hpp>
#include <moe/exec/cuda.cuh>
#include <moe/exec/cuda/vector.cuh>

namespace moe {
namespace detail {

inline constexpr int gather_unroll = 4;  // loads of a lane before its first store

// A warp per row: neighbouring lanes take neighbouring 16 bytes.
template <class T>
struct PackVectorsRow {
  PackRow<T, Cuda> row;

  template <Team G>
  __device__ void operator()(G team, index_t r) const
  {
    index_t const n          = row.to.extent(1) * index_t{sizeof(T)} / 16;
    auto const* const source = reinterpret_cast<uint4 const*>(row.from.row(r));
    auto* const target       = reinterpret_cast<uint4*>(row.to.data_handle()) + r * n;
    constexpr uint4 zeros    = {0, 0, 0, 0};
    for (index_t begin = team.lane(); begin < n; begin += gather_unroll * team.size()) {
      uint4 v[gather_unroll];
#pragma unroll
      for (int u = 0; u < gather_unroll; ++u) {
        index_t const i = begin + u * team.size();
        v[u]            = source != nullptr && i < n ? source[i] : zeros;
      }
#pragma unroll
      for (int u = 0; u < gather_unroll; ++u) {
        index_t const i = begin + u * team.size();
        if (i < n) { target[i] = v[u]; }
      }
    }
  }
};

}  // namespace detail

template <class T>
MOE_HIDDEN void gather_rows(Cuda const& exec,
                            IndexedRows<T, Cuda> const& from,
                            index_t rows,
                            View<T, 2, Cuda> to)
{
  detail::PackRow<T, Cuda> const row{from, to};
  if (detail::rows_aligned_16(from.base, to)) {
    exec.for_each_row(rows, detail::PackVectorsRow<T>{row});
  } else {
    exec.for_each_row(rows, row);
  }
}

}  // namespace moe
