#pragma once
// How one float operand of a dense product is multiplied with a BFloat16 one on cuBLAS, which mixes
// no types (exec/cuda/split_gemm.cuh): as a sum of three BFloat16, whose three products are one
// call. Only sizes, which a memory plan knows too.
#include <algorithm>

#include <moe/core/view.hpp>

namespace moe::detail {

inline constexpr int split_parts = 3;

struct SplitTuning {
  index_t slice;    // least numbers of a slice of the sum over k
  index_t slices;   // most of them
  index_t results;  // most floats that all slices' results are, where there are several
};
// Slices make blocks enough for the GPU out of few results, and keep short the sums that tensor
// cores take, which they round towards zero. Each costs its results' way to memory and back.
inline constexpr SplitTuning split_tuning{.slice = 1024, .slices = 32, .results = index_t{1} << 23};

// Of a result (outer, other), where the split operand has the extents outer and k.
struct SplitShape {
  SplitShape(index_t outer_extent, index_t other_extent, index_t k_extent)
      : outer{outer_extent}, other{other_extent}, k{k_extent}, along_k{k <= outer}
  {
    if (along_k) { return; }
    index_t const each = std::max(split_parts * outer * other, index_t{1});
    index_t const most =
        std::min({k / split_tuning.slice, split_tuning.slices, split_tuning.results / each});
    while (2 * slices <= most) {
      slices *= 2;
    }
  }

  index_t outer, other, k;
  // Either the parts lie one behind the other along k, beside three copies of the other operand; or
  // along the outer extent, and their results are added up. Whichever makes less memory.
  bool along_k;
  index_t slices = 1;  // of the sum over k, each with results of its own

  // A slice's length, a multiple of 8 elements where there are several; what is left after the last
  // one is added to the first one's results.
  [[nodiscard]] index_t slice() const { return slices == 1 ? k : k / slices / 8 * 8; }
  // Memory, in elements: parts, copies, and floats to be added up.
  [[nodiscard]] index_t parts() const { return split_parts * outer * k; }
  [[nodiscard]] index_t copies() const { return along_k ? split_parts * other * k : 0; }
  [[nodiscard]] index_t results() const
  {
    return along_k ? 0 : slices * split_parts * outer * other;
  }
};

}  // namespace moe::detail
