// error: moe::Layer: an expert kernel has a type Sizes that can be compared, see
// moe/expert/expert_kernel.hpp
#include "parts.hpp"

struct Expert : parts::Expert {
  struct Sizes {};
};
moe::Layer layer{parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, Expert{}};
