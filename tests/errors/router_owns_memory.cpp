// error: moe::Layer: a router is trivially copyable, since kernels take it by value: let it hold a
// View
#include "parts.hpp"

#include <vector>

struct Router : parts::Router {
  std::vector<float> bias;
};
moe::Layer layer{Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
