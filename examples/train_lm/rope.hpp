#pragma once
// Rotary position embedding (Su et al. 2021) on queries and keys, in place.
#include <cmath>

#include <moe/core/team.hpp>
#include <moe/core/tensor.hpp>

namespace train_lm {

using moe::index_t;
using moe::Team;
using moe::Tensor;
using moe::View;

// angle(i, d) = i / base^(2 d / Dh): cosines in the first half of a row, sines in the second
template <class T, class ExecT>
struct RopeTableRow {
  View<T, 2, ExecT> table;  // (context, Dh)
  static constexpr double base = 10000;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    index_t const half = table.extent(1) / 2;
    for (index_t d = team.lane(); d < half; d += team.size()) {
      double const angle = static_cast<double>(i) *
                           std::pow(base, -static_cast<double>(d) / static_cast<double>(half));
      table(i, d)        = static_cast<T>(std::cos(angle));
      table(i, half + d) = static_cast<T>(std::sin(angle));
    }
  }
};

// Every pair (d, d + Dh/2) of every head of q and k is turned by its angle; sign -1 turns it back,
// which is also what its gradient needs, since a rotation's inverse is its transpose.
template <class T, class ExecT>
struct RopeRow {
  View<T const, 2, ExecT> table;  // (context, Dh)
  View<T, 2, ExecT> qkv;          // (T, 3 D); v stays as it is
  T sign;
  index_t context;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const Dh = table.extent(1), half = Dh / 2;
    index_t const heads = qkv.extent(1) / 3 * 2 / Dh;  // q's and k's
    index_t const i     = t % context;
    for (index_t head = 0; head < heads; ++head) {
      for (index_t d = team.lane(); d < half; d += team.size()) {
        T const c = table(i, d), s = sign * table(i, half + d);
        T& a             = qkv(t, head * Dh + d);
        T& b             = qkv(t, head * Dh + half + d);
        T const turned_a = a * c - b * s, turned_b = a * s + b * c;
        a = turned_a;
        b = turned_b;
      }
    }
  }
};

template <class T, class ExecT>
[[nodiscard]] Tensor<T, 2, ExecT> make_rope_table(ExecT const& exec, index_t context, index_t head)
{
  Tensor<T, 2, ExecT> table(exec, context, head);
  exec.for_each_row(context, RopeTableRow<T, ExecT>{table.view()});
  return table;
}

template <class ExecT, class T>
void rope(ExecT const& exec,
          std::type_identity_t<View<T const, 2, ExecT>> table,
          View<T, 2, ExecT> qkv,
          index_t context)
{
  exec.for_each_row(qkv.extent(0), RopeRow<T, ExecT>{table, qkv, T{1}, context});
}
template <class ExecT, class T>
void rope_backward(ExecT const& exec,
                   std::type_identity_t<View<T const, 2, ExecT>> table,
                   View<T, 2, ExecT> d_qkv,
                   index_t context)
{
  exec.for_each_row(d_qkv.extent(0), RopeRow<T, ExecT>{table, d_qkv, T{-1}, context});
}

}  // namespace train_lm
