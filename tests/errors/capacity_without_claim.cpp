// error: moe::Layer: a bounded capacity policy has slots, slots_bound, needs_loads and claim, see
// moe/plan/capacity_policy.hpp
#include <moe/plan/drop_policy.hpp>

#include "parts.hpp"

struct Capacity : moe::DropByPosition<> {
  void claim() const;
};
moe::Layer layer{parts::Router{}, Capacity{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
