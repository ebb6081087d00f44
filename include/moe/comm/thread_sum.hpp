#pragma once
// Sums over the staged bytes of all ranks, in the order of ranks: what is the same on every space,
// and Host's loop.
#include <algorithm>

#include <moe/comm/communicator.hpp>
#include <moe/comm/thread_group.hpp>
#include <moe/exec/host.hpp>

namespace moe::detail {

// Ranks that add up different element types of one size are refused too.
template <SumElement T>
[[nodiscard]] Fingerprint sum_fingerprint(index_t count)
{
  char const* const kind = std::same_as<T, Half>         ? "Half"
                           : std::same_as<T, BFloat16>   ? "BFloat16"
                           : std::is_floating_point_v<T> ? "real"
                           : std::is_signed_v<T>         ? "signed"
                                                         : "unsigned";
  return {.element_kind = kind, .element_bytes = sizeof(T), .count = count};
}

template <class T>
struct SumOf {
  using type = accumulator_t<T>;
};
template <std::integral T>
struct SumOf<T> {
  using type = std::uint64_t;  // wraps around, to the same low bits as T would
};

// out[i] = sum over ranks of their staged element first + i. Blocks, so that the running sums stay
// in the cache while each rank's bytes stream past.
template <SumElement T>
void sum_in_order(ThreadGroup::Call const& call, index_t first, View<T, 1, Host> out)
{
  using S                 = typename SumOf<T>::type;
  constexpr index_t block = 1024;
  S sum[block];
  for (index_t begin = 0; begin < out.size(); begin += block) {
    index_t const n = std::min(block, out.size() - begin);
    for (int r = 0; r < call.size(); ++r) {
      auto const* const staged =
          reinterpret_cast<T const*>(call.of(r).staged.data()) + first + begin;
      for (index_t i = 0; i < n; ++i) {
        sum[i] =
            r == 0 ? static_cast<S>(staged[i]) : static_cast<S>(sum[i] + static_cast<S>(staged[i]));
      }
    }
    for (index_t i = 0; i < n; ++i) {
      out(begin + i) = static_cast<T>(sum[i]);
    }
  }
}

}  // namespace moe::detail
