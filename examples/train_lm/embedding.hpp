#pragma once
// Bytes to vectors, and the way back without atomics.
#include <cstdint>

#include <moe/core/team.hpp>
#include <moe/core/tensor.hpp>

namespace train_lm {

using moe::Id;
using moe::index_t;
using moe::Team;
using moe::Tensor;
using moe::View;

inline constexpr index_t vocabulary = 256;  // bytes

// x(t) = table(token(t))
template <class T, class ExecT>
struct EmbedRow {
  View<Id const, 1, ExecT> token;  // (T)
  View<T const, 2, ExecT> table;   // (V, D)
  View<T, 2, ExecT> x;             // (T, D)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    for (index_t d = team.lane(); d < x.extent(1); d += team.size()) {
      x(t, d) = table(token(t), d);
    }
  }
};

// What sorts positions by token: key(t) = token(t), value(t) = t.
template <class ExecT>
struct TokenKeyRow {
  View<Id const, 1, ExecT> token;     // (T)
  View<std::uint32_t, 1, ExecT> key;  // (T)
  View<Id, 1, ExecT> position;        // (T)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    if (team.lane() == 0) {
      key(t)      = static_cast<std::uint32_t>(token(t));
      position(t) = static_cast<Id>(t);
    }
  }
};

// d_table(v) += sum over the positions of v, ascending, of dx: one writer per vocabulary entry.
template <class T, class ExecT>
struct EmbedBackwardRow {
  View<std::uint32_t const, 1, ExecT> key;  // (T), sorted
  View<Id const, 1, ExecT> position;        // (T), in the order of key
  View<T const, 2, ExecT> dx;               // (T, D)
  View<T, 2, ExecT> d_table;                // (V, D)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t v) const
  {
    index_t const end = first_not_below(v + 1);
    for (index_t i = first_not_below(v); i < end; ++i) {
      for (index_t d = team.lane(); d < dx.extent(1); d += team.size()) {
        d_table(v, d) += dx(position(i), d);
      }
    }
  }

 private:
  [[nodiscard]] MOE_HOST_DEVICE index_t first_not_below(index_t v) const
  {
    index_t low = 0, high = key.extent(0);
    while (low < high) {
      index_t const middle           = (low + high) / 2;
      (key(middle) < v ? low : high) = key(middle) < v ? middle + 1 : middle;
    }
    return low;
  }
};

template <class ExecT, class T>
void embed(ExecT const& exec,
           View<Id const, 1, ExecT> token,
           std::type_identity_t<View<T const, 2, ExecT>> table,
           View<T, 2, ExecT> x)
{
  exec.for_each_row(x.extent(0), EmbedRow<T, ExecT>{token, table, x});
}

template <class ExecT, class T>
void embed_backward(ExecT const& exec,
                    View<Id const, 1, ExecT> token,
                    std::type_identity_t<View<T const, 2, ExecT>> dx,
                    View<T, 2, ExecT> d_table)
{
  index_t const tokens = dx.extent(0);
  Tensor<std::uint32_t, 1, ExecT> key(exec, tokens), key_sorted(exec, tokens);
  Tensor<Id, 1, ExecT> position(exec, tokens), position_sorted(exec, tokens);
  exec.for_each_row(tokens, TokenKeyRow<ExecT>{token, key.view(), position.view()});
  sort_pairs(exec, 8, key.view(), position.view(), key_sorted.view(), position_sorted.view());
  exec.for_each_row(d_table.extent(0),
                    EmbedBackwardRow<T, ExecT>{
                        key_sorted.const_view(), position_sorted.const_view(), dx, d_table});
}

}  // namespace train_lm
