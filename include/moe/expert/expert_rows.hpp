#pragma once
// How rows reach the experts: by reference, never as a permuted copy.
#include <moe/core/view.hpp>

namespace moe {

// Row r is base(index(r)), or base(r) when `index` is empty; index -1 is a row of zeros. A kernel
// that gathers while it loads reads through `index`, so no permuted copy need exist.
template <class T, class ExecT>
struct IndexedRows {
  View<T const, 2, ExecT> base;    // (N, D)
  View<Id const, 1, ExecT> index;  // (R) or empty

  [[nodiscard]] MOE_HOST_DEVICE constexpr index_t columns() const { return base.extent(1); }
  // Only where the space computes; null for a row of zeros.
  [[nodiscard]] MOE_HOST_DEVICE constexpr T const* row(index_t r) const
  {
    index_t const i = index.data_handle() == nullptr ? r : index(r);
    return i < 0 ? nullptr : base.data_handle() + i * base.extent(1);
  }
};

// Which rows belong to which local expert: rows [offsets(e), offsets(e) + counts(e)) to expert e,
// with counts(e) = offsets(e + 1) - offsets(e) when `counts` is empty (it is not for padded slots).
// Both live where the space computes; `rows` is the bound that the host knows. A call works on the
// experts [first, last), at absolute rows of the whole buffers.
template <class ExecT>
struct RowGroups {
  View<Id const, 1, ExecT> offsets;  // (L + 1)
  View<Id const, 1, ExecT> counts;   // (L) or empty
  index_t rows = 0;                  // R
  Id first     = 0;
  Id last      = 0;
  // Rows of the call's one expert, where the host was made to know them (SerialSchedule); or -1.
  index_t known_begin = -1;
  index_t known_end   = -1;

  [[nodiscard]] MOE_HOST_DEVICE constexpr Id experts() const { return last - first; }
  // Only where the space computes.
  [[nodiscard]] MOE_HOST_DEVICE constexpr index_t begin(index_t e) const { return offsets(e); }
  [[nodiscard]] MOE_HOST_DEVICE constexpr index_t end(index_t e) const
  {
    return counts.data_handle() == nullptr ? offsets(e + 1) : offsets(e) + counts(e);
  }
  [[nodiscard]] constexpr RowGroups only(Id from, Id to) const
  {
    return {offsets, counts, rows, from, to};
  }
  [[nodiscard]] constexpr RowGroups only(Id e, index_t begin_row, index_t end_row) const
  {
    return {offsets, counts, rows, e, e + 1, begin_row, end_row};
  }
};

}  // namespace moe
