#pragma once
// The whole product of routers, capacity policies and dispatchers, with everything else at its
// simplest.
#include "support/layer_gradient.hpp"
#include "support/layer_policies.hpp"

#include <utility>

namespace moe::test {

template <int Router, int Capacity, int Dispatcher>
void check_product_at()
{
  constexpr Composition c{.router = Router, .capacity = Capacity, .dispatcher = Dispatcher};
  check_layer_gradient(c.name(), compose<c>(), {.drops = Capacity != 0});
}

template <int Router>
void check_product()
{
  static_assert(Router < routers_in_product);
  [&]<int... Capacity>(std::integer_sequence<int, Capacity...>) {
    (check_product_at<Router, Capacity, 0>(), ...);
    (check_product_at<Router, Capacity, 1>(), ...);
  }(std::make_integer_sequence<int, policy_counts[1]>{});
}

}  // namespace moe::test
