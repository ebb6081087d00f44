// error: moe::Layer: a capacity policy has static constexpr bool bounded
#include "parts.hpp"

struct Capacity {};
moe::Layer layer{parts::Router{}, Capacity{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
