#pragma once
// Tensor maps: descriptions of matrices in device memory, by which one thread has the hardware copy
// a box of them to or from shared memory (CUDA driver API, tensor map object management).
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>
#include <type_traits>

#include <cuda.h>
#include <cuda/ptx>

#include <moe/core/element.hpp>
#include <moe/core/view.hpp>
#include <moe/exec/cuda/error.cuh>

namespace moe::detail {

// Of Rank dimensions, innermost first; strides in bytes, those of dimensions 1 and on.
template <int Rank>
struct TensorShape {
  std::uint64_t extent[Rank];
  std::uint64_t stride[Rank - 1];
  std::uint32_t box[Rank];
};

// The driver's function, found through the runtime, so that nobody need link the driver.
using EncodeTensorMap = decltype(&cuTensorMapEncodeTiled);
inline MOE_HIDDEN EncodeTensorMap encode_tensor_map()
{
  static EncodeTensorMap const encode = [] {
    void* entry                           = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    MOE_CUDA_TRY(cudaGetDriverEntryPointByVersion(
        "cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found));
    if (found != cudaDriverEntryPointSuccess || entry == nullptr) {
      throw CudaError("moe::Cuda, a grouped product",
                      "the driver's cuTensorMapEncodeTiled",
                      "absent",
                      "there: a driver for CUDA 12.0 or newer has it");
    }
    return reinterpret_cast<EncodeTensorMap>(entry);
  }();
  return encode;
}

template <class T>
inline constexpr CUtensorMapDataType tensor_element = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
template <>
inline constexpr CUtensorMapDataType tensor_element<BFloat16> = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
// Subnormal numbers are kept where the hardware adds, as by a thread's addition.
template <>
inline constexpr CUtensorMapDataType tensor_element<float> = CU_TENSOR_MAP_DATA_TYPE_FLOAT32;

// Boxes are 128 bytes wide, and lie in shared memory as SharedTile has rows of 128 bytes. What a
// box has outside of the tensor is read as zeros and not written.
template <class T, int Rank>
CUtensorMap make_tensor_map(T const* base, TensorShape<Rank> const& s)
{
  static_assert(std::is_same_v<T, Half> || std::is_same_v<T, BFloat16> || std::is_same_v<T, float>);
  std::uint32_t steps[Rank];
  for (auto& step : steps) {
    step = 1;
  }
  CUtensorMap map{};
  CUresult const result = encode_tensor_map()(&map,
                                              tensor_element<T>,
                                              Rank,
                                              const_cast<T*>(base),
                                              s.extent,
                                              s.stride,
                                              s.box,
                                              steps,
                                              CU_TENSOR_MAP_INTERLEAVE_NONE,
                                              CU_TENSOR_MAP_SWIZZLE_128B,
                                              CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw CudaError(
        "cuTensorMapEncodeTiled", "result", text_of(static_cast<int>(result)), "0 (CUDA_SUCCESS)");
  }
  return map;
}

template <class T>
inline constexpr std::uint32_t box_columns = 128 / sizeof(T);

// Rows (N, D), boxes of `rows` of them. `stride`: elements from row to row, where the D are a part
// of each.
template <class T>
CUtensorMap rows_map(T const* base, index_t n, index_t d, index_t stride, std::uint32_t rows)
{
  return make_tensor_map<T, 2>(base,
                               {{static_cast<std::uint64_t>(d), static_cast<std::uint64_t>(n)},
                                {static_cast<std::uint64_t>(stride) * sizeof(T)},
                                {box_columns<T>, rows}});
}
// Matrices (E, N, D), boxes within one of them.
template <class T>
CUtensorMap matrices_map(T const* base, index_t e, index_t n, index_t d, std::uint32_t rows)
{
  auto const columns = static_cast<std::uint64_t>(d), height = static_cast<std::uint64_t>(n);
  return make_tensor_map<T, 3>(base,
                               {{columns, height, static_cast<std::uint64_t>(e)},
                                {columns * sizeof(T), columns * height * sizeof(T)},
                                {box_columns<T>, rows, 1}});
}

// Rows (N, D) in groups whose ends only the device knows, by one map for all of them: a box that
// begins at row r of a group that ends at row `end` has the coordinates
//   (column, span - (end - r), end, span)
// so that the hardware clips it at the group's end, where dimension 1 is at its extent, span =
// 2^30. The address is base + (span - (end - r)) s + end s + span (2^34 - s) = base + r s + 2^64,
// of which the last wraps to nothing. (Triton's ragged descriptors have this form.)
inline constexpr int ragged_span = 1 << 30;
template <class T>
CUtensorMap ragged_rows_map(T const* base, index_t d, index_t stride, std::uint32_t rows)
{
  constexpr std::uint64_t any = 0x7fff0000;
  std::uint64_t const s       = static_cast<std::uint64_t>(stride) * sizeof(T);
  return make_tensor_map<T, 4>(
      base,
      {{static_cast<std::uint64_t>(d), std::uint64_t{ragged_span}, any, any},
       {s, s, (std::uint64_t{1} << 34) - s},
       {box_columns<T>, rows, 1, 1}});
}

// A box to shared memory; its bytes, all of them also where it is clipped, count for `barrier`.
template <int Rank>
__device__ __forceinline__ void load_box(CUtensorMap const& map,
                                         std::int32_t const (&at)[Rank],
                                         void* to,
                                         std::uint64_t* barrier)
{
  cuda::ptx::cp_async_bulk_tensor(
      cuda::ptx::space_cluster, cuda::ptx::space_global, to, &map, at, barrier);
}
// The same to the same place in all blocks of the cluster that `blocks` has a bit for, each of
// which counts the bytes at its own barrier.
template <int Rank>
__device__ __forceinline__ void load_box_to_blocks(CUtensorMap const& map,
                                                   std::int32_t const (&at)[Rank],
                                                   void* to,
                                                   std::uint64_t* barrier,
                                                   std::uint16_t blocks)
{
  cuda::ptx::cp_async_bulk_tensor(
      cuda::ptx::space_cluster, cuda::ptx::space_global, to, &map, at, barrier, blocks);
}
// Of ragged_rows_map: rows from `row` on, and zeros for those past `end`.
__device__ __forceinline__ void load_ragged_box(
    CUtensorMap const& map, int column, int row, int end, void* to, std::uint64_t* barrier)
{
  load_box<4>(map, {column, ragged_span - (end - row), end, ragged_span}, to, barrier);
}
// Of ragged_rows_map, from shared memory, as part of the thread's next group of bulk copies.
__device__ __forceinline__ void store_ragged_box(
    CUtensorMap const& map, int column, int row, int end, void const* from)
{
  std::int32_t const at[4] = {column, ragged_span - (end - row), end, ragged_span};
  cuda::ptx::cp_async_bulk_tensor(cuda::ptx::space_global, cuda::ptx::space_shared, &map, at, from);
}

}  // namespace moe::detail
