#pragma once
// What the gate reads where a mask takes tokens out.
#include <cstdint>

#include <moe/core/team.hpp>
#include <moe/core/tensor.hpp>

namespace moe::detail {

// to(t) = x(t), or zeros where the mask is 0: padding may hold anything, and in a sum over tokens
// 0 x NaN is NaN.
template <class T, class ExecT>
struct MaskedRow {
  View<T const, 2, ExecT> x;                // (T, D)
  View<std::uint8_t const, 1, ExecT> mask;  // (T)
  View<T, 2, ExecT> to;                     // (T, D)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    for (index_t d = team.lane(); d < x.extent(1); d += team.size()) {
      to(t, d) = mask(t) != 0 ? x(t, d) : T{};
    }
  }
};

// x itself, or a copy in `memory` (T, D) where there is some.
template <class ExecT, class T>
View<T const, 2, ExecT> masked_rows(ExecT const& exec,
                                    View<T const, 2, ExecT> x,
                                    View<std::uint8_t const, 1, ExecT> mask,
                                    Tensor<T, 2, ExecT>& memory)
{
  if (memory.bytes() == 0) { return x; }
  exec.for_each_row(x.extent(0), MaskedRow<T, ExecT>{x, mask, memory.view()});
  return memory.const_view();
}

}  // namespace moe::detail
