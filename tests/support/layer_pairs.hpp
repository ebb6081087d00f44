#pragma once
// A covering array: every two policies that go together meet in one of these layers, whatever
// their factors (gradient_pairs_1_test.cpp counts them).
#include "support/layer_gradient.hpp"
#include "support/layer_policies.hpp"

#include <utility>

namespace moe::test {

// router, capacity, dispatcher, expert, gate, shared, loss
// clang-format off
inline constexpr std::array<Composition, 71> covering_compositions{{
    {0, 0, 1, 4, 3, 1, 2}, {0, 1, 0, 1, 0, 0, 5}, {0, 1, 0, 2, 1, 0, 0}, {0, 2, 2, 0, 0, 2, 1},
    {0, 2, 2, 6, 2, 0, 3}, {0, 3, 0, 5, 4, 1, 6}, {0, 3, 2, 3, 3, 2, 4}, {1, 0, 0, 4, 4, 0, 0},
    {1, 1, 2, 5, 2, 1, 4}, {1, 2, 0, 2, 3, 1, 3}, {1, 2, 1, 6, 1, 1, 6}, {1, 2, 2, 1, 0, 1, 2},
    {1, 3, 1, 0, 4, 1, 1}, {1, 3, 2, 3, 1, 2, 5}, {2, 0, 2, 1, 3, 0, 6}, {2, 1, 0, 5, 1, 2, 2},
    {2, 2, 1, 0, 4, 1, 3}, {2, 2, 1, 3, 2, 0, 1}, {2, 2, 2, 6, 1, 1, 5}, {2, 3, 1, 2, 0, 1, 4},
    {2, 3, 1, 4, 1, 2, 0}, {3, 0, 1, 2, 3, 1, 5}, {3, 1, 0, 0, 3, 0, 2}, {3, 1, 0, 6, 2, 0, 0},
    {3, 1, 1, 3, 3, 0, 3}, {3, 1, 2, 4, 0, 2, 6}, {3, 2, 2, 1, 1, 1, 4}, {3, 3, 1, 5, 4, 0, 1},
    {4, 0, 1, 4, 2, 0, 5}, {4, 1, 1, 1, 3, 1, 0}, {4, 1, 2, 3, 4, 1, 3}, {4, 2, 0, 2, 4, 2, 2},
    {4, 2, 1, 0, 1, 1, 4}, {4, 2, 1, 5, 0, 0, 6}, {4, 3, 2, 6, 3, 0, 1}, {5, 0, 0, 6, 4, 2, 4},
    {5, 0, 1, 2, 1, 2, 6}, {5, 1, 0, 1, 2, 2, 5}, {5, 1, 2, 4, 1, 2, 1}, {5, 2, 0, 5, 0, 2, 3},
    {5, 2, 1, 3, 3, 1, 0}, {5, 3, 2, 0, 2, 0, 2}, {6, 0, 0, 0, 1, 1, 1}, {6, 1, 1, 1, 2, 2, 3},
    {6, 1, 2, 5, 4, 0, 0}, {6, 2, 0, 4, 3, 0, 4}, {6, 2, 2, 2, 1, 0, 2}, {6, 3, 2, 3, 4, 2, 6},
    {6, 3, 2, 6, 0, 0, 5}, {7, 0, 2, 2, 0, 2, 0}, {7, 0, 2, 3, 0, 2, 0}, {7, 0, 2, 6, 0, 2, 0},
    {7, 1, 0, 4, 0, 0, 0}, {7, 1, 1, 5, 0, 2, 0}, {7, 2, 2, 0, 0, 0, 0}, {7, 3, 0, 1, 0, 1, 0},
    {8, 0, 0, 2, 2, 1, 1}, {8, 0, 0, 3, 0, 0, 3}, {8, 0, 0, 4, 0, 2, 4}, {8, 0, 1, 1, 4, 1, 5},
    {8, 0, 2, 0, 0, 0, 6}, {8, 0, 2, 5, 3, 2, 0}, {8, 0, 2, 6, 1, 0, 2}, {9, 0, 1, 6, 4, 2, 0},
    {9, 0, 2, 2, 2, 2, 6}, {9, 1, 1, 0, 3, 0, 5}, {9, 2, 0, 5, 2, 1, 5}, {9, 2, 1, 1, 4, 1, 1},
    {9, 2, 1, 3, 0, 1, 2}, {9, 3, 0, 4, 1, 0, 3}, {9, 3, 1, 4, 3, 0, 4},
}};
// clang-format on

// The gradient check of compositions First ... Last - 1, on 3 sequences of 4 tokens.
template <std::size_t First, std::size_t Last>
void check_compositions()
{
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (
        [] {
          constexpr Composition c = covering_compositions[First + I];
          check_layer_gradient(
              c.name(), compose<c>(), {.drops = c.capacity != 0}, {.tokens = 12, .sequences = 3});
        }(),
        ...);
  }(std::make_index_sequence<Last - First>{});
}

}  // namespace moe::test
