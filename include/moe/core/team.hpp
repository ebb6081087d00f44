#pragma once
// The lanes that share one row. Row maths strides over columns by size() and reduces through the
// team, so the same text is a plain loop on the host and a warp on a GPU.
#include <concepts>

#include <moe/core/view.hpp>

namespace moe {

template <class G>
concept HasLanes = requires(G const g) {
  { g.lane() } -> std::convertible_to<int>;
  { g.size() } -> std::convertible_to<int>;
};
// Every lane passes its part and every lane gets the same result, in an order that is fixed.
template <class G, class S>
concept HasReductions = requires(G const g, S x, Id i) {
  { g.sum(x) } -> std::same_as<S>;
  { g.max(x) } -> std::same_as<S>;
  { g.arg_max(x, i) } -> std::same_as<Id>;  // of the largest x; the smaller index wins a tie
};
// Orders what lanes wrote before against what they read after, in memory that the row shares.
template <class G>
concept HasSync = requires(G const g) { g.sync(); };

template <class G>
concept Team = HasLanes<G> && HasReductions<G, float> && HasReductions<G, double> &&
               HasReductions<G, Id> && HasSync<G>;

struct SerialTeam {
  MOE_HOST_DEVICE static constexpr int lane() { return 0; }
  MOE_HOST_DEVICE static constexpr int size() { return 1; }
  template <class S>
  MOE_HOST_DEVICE static constexpr S sum(S x)
  {
    return x;
  }
  template <class S>
  MOE_HOST_DEVICE static constexpr S max(S x)
  {
    return x;
  }
  template <class S>
  MOE_HOST_DEVICE static constexpr Id arg_max(S, Id i)
  {
    return i;
  }
  MOE_HOST_DEVICE static constexpr void sync() {}
};
static_assert(Team<SerialTeam>);

}  // namespace moe
