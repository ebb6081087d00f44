#pragma once
// A sum over ranks, in their order, on Cuda. Additions alone, so with Host's bits (a NaN's payload
// apart).
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/comm/thread_sum.hpp>
#include <moe/exec/cuda.cuh>

namespace moe::detail {

// out(i) = before(i) + parts[0](i) + parts[1](i) + ..., from the left. More ranks than fit a
// kernel's arguments are added in several launches, between which running sums stay as they are.
template <SumElement T>
struct SumPartsRow {
  using S                        = typename SumOf<T>::type;
  static constexpr int most      = 64;
  static constexpr index_t block = 128;  // elements of a row of the launch

  Array<T const*, most> parts{};
  int count        = 0;  // at least 1
  S const* before  = nullptr;
  S* running       = nullptr;  // null: the last parts, out gets the rounded sum
  T* out           = nullptr;
  index_t elements = 0;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    index_t const end = elements - row * block < block ? elements : (row + 1) * block;
    for (index_t i = row * block + team.lane(); i < end; i += team.size()) {
      S sum = before == nullptr ? static_cast<S>(parts[0][i])
                                : static_cast<S>(before[i] + static_cast<S>(parts[0][i]));
      for (int p = 1; p < count; ++p) {
        sum = static_cast<S>(sum + static_cast<S>(parts[p][i]));
      }
      if (running != nullptr) {
        running[i] = sum;
      } else {
        out[i] = static_cast<T>(sum);
      }
    }
  }
  static void launch(Cuda const& exec, SumPartsRow const& sum)
  {
    exec.for_each_row((sum.elements + block - 1) / block, sum);
  }
};

}  // namespace moe::detail
