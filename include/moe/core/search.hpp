#pragma once
// Binary search in sorted keys, for row functors.
#include <moe/core/view.hpp>

namespace moe::detail {

// First position of an ascending key list that is not below `value`.
template <class Key, class ExecT>
MOE_HOST_DEVICE index_t lower_bound(View<Key const, 1, ExecT> key, Key value)
{
  index_t lo = 0, hi = key.extent(0);
  while (lo < hi) {
    index_t const mid = (lo + hi) / 2;
    if (key(mid) < value) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  return lo;
}

}  // namespace moe::detail
