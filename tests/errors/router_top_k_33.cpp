// error: moe::Layer: a router has static constexpr int top_k in 1 ... 32
#include "parts.hpp"

struct Router : parts::Router {
  static constexpr int top_k = 33;
};
moe::Layer layer{Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
