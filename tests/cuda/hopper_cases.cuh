#pragma once
// What the tests of the warp-specialised kernels run on: operands made on the device, and experts
// with every number of rows.
#include "support/space.hpp"

#include <cstdint>
#include <vector>

#include <moe/exec/cuda/primitives.cuh>

namespace moe::test {

// In [-1, 1), from (seed, position), rounded to T.
template <class T>
struct FillRow {
  View<T, 2, Cuda> out;
  std::uint32_t seed;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    for (index_t j = team.lane(); j < out.extent(1); j += team.size()) {
      auto u = static_cast<std::uint32_t>(i * out.extent(1) + j) * 0x9e3779b9u + seed;
      u      = (u ^ (u >> 16)) * 0x85ebca6bu;
      u      = (u ^ (u >> 13)) * 0xc2b2ae35u;
      u ^= u >> 16;
      out(i, j) = static_cast<T>(static_cast<float>(u >> 8) * 0x1p-23f - 1.f);
    }
  }
};
template <class T>
Tensor<T, 2, Cuda> filled(Cuda const& exec, index_t rows, index_t columns, std::uint32_t seed)
{
  Tensor<T, 2, Cuda> x(exec, rows, columns);
  exec.for_each_row(rows, FillRow<T>{x.view(), seed});
  return x;
}
// Bits that are a NaN in every element type.
template <class T, int Rank>
void fill_with_nan(Cuda const& exec, Tensor<T, Rank, Cuda>& x)
{
  MOE_CUDA_TRY(cudaMemsetAsync(x.view().data_handle(), 0xff, x.bytes(), exec.stream()));
}

// Experts with so many rows each, and after each, where it is padded, unused slots.
struct Layout {
  char const* name;
  std::vector<index_t> counts;
  index_t padding = 0;
};
inline std::vector<Layout> layouts()
{
  std::vector<index_t> all_tails(130);
  for (std::size_t e = 0; e < all_tails.size(); ++e) {
    all_tails[e] = static_cast<index_t>(e * 37 % 130);
  }
  return {{"every length from 0 to 129", all_tails},
          {"one expert has everything", {0, 0, 1000, 0}},
          {"padded", {0, 1, 64, 65, 127, 128, 129, 0, 300}, 7},
          {"one row", {1}},
          {"large and small", {700, 3, 0, 0, 64, 513, 192}}};
}

}  // namespace moe::test
