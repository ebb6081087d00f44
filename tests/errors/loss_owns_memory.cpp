// error: moe::Layer: a loss is trivially copyable, since kernels take it by value
#include "parts.hpp"

#include <vector>

struct Loss : parts::Loss {
  std::vector<float> target;
};
moe::Layer layer{
    parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}, Loss{}};
