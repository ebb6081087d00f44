#pragma once
// What the tests of the warp-specialised kernels run on: operands made on the device, and experts
// with every number of rows.
#include "support/space.hpp"

#include <cstdint>
#include <cstring>
#include <vector>

#include <moe/exec/cuda/primitives.cuh>

namespace moe::test {

// In [-scale, scale), from (seed, position), rounded to T.
template <class T>
struct FillRow {
  View<T, 2, Cuda> out;
  std::uint32_t seed;
  float scale;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    for (index_t j = team.lane(); j < out.extent(1); j += team.size()) {
      auto u = static_cast<std::uint32_t>(i * out.extent(1) + j) * 0x9e3779b9u + seed;
      u      = (u ^ (u >> 16)) * 0x85ebca6bu;
      u      = (u ^ (u >> 13)) * 0xc2b2ae35u;
      u ^= u >> 16;
      out(i, j) = static_cast<T>(scale * (static_cast<float>(u >> 8) * 0x1p-23f - 1.f));
    }
  }
};
template <class T>
Tensor<T, 2, Cuda> filled(
    Cuda const& exec, index_t rows, index_t columns, std::uint32_t seed, float scale = 1)
{
  Tensor<T, 2, Cuda> x(exec, rows, columns);
  exec.for_each_row(rows, FillRow<T>{x.view(), seed, scale});
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

  [[nodiscard]] index_t rows() const
  {
    index_t n = 0;
    for (index_t const count : counts) {
      n += count + padding;
    }
    return n;
  }
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

// A layout's groups, and which row of `base_rows` each of its rows is: -1 is a row of zeros; in an
// unused slot the number of a row that is not there.
class PlacedRows {
 public:
  PlacedRows(Cuda const& exec, Layout const& layout, index_t base_rows)
  {
    std::vector<index_t> offsets{0}, index;
    for (index_t const count : layout.counts) {
      for (index_t i = 0; i < count + layout.padding; ++i) {
        index.push_back(i >= count ? index_t{1} << 30
                                   : (offsets.back() + i) * 7919 % (base_rows + 1) - 1);
      }
      offsets.push_back(offsets.back() + count + layout.padding);
    }
    auto const experts = static_cast<index_t>(layout.counts.size());
    offsets_           = put<Id>(exec, offsets, experts + 1);
    counts_            = put<Id>(exec, layout.counts, experts);
    index_             = put<Id>(exec, index, offsets.back());
    groups             = {offsets_.const_view(),
              layout.padding > 0 ? counts_.const_view() : View<Id const, 1, Cuda>{},
                          offsets.back(),
                          0,
                          static_cast<Id>(experts)};
  }
  [[nodiscard]] View<Id const, 1, Cuda> index() const { return index_.const_view(); }
  // Unused slots must not show.
  template <class T>
  static void fill_unused(Cuda const& exec, Layout const& layout, Tensor<T, 2, Cuda>& x)
  {
    index_t const columns = x.view().extent(1);
    T* at                 = x.view().data_handle();
    for (index_t const count : layout.counts) {
      at += count * columns;
      MOE_CUDA_TRY(cudaMemsetAsync(
          at, 0xff, static_cast<std::size_t>(layout.padding * columns) * sizeof(T), exec.stream()));
      at += layout.padding * columns;
    }
  }

  RowGroups<Cuda> groups;

 private:
  Tensor<Id, 1, Cuda> offsets_, counts_, index_;
};

template <class T>
bool same_bits(std::vector<T> const& a, std::vector<T> const& b)
{
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace moe::test
