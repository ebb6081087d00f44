// error: moe::Layer: a capacity policy has static constexpr bool bounded
#include "parts.hpp"

moe::Layer layer{parts::Router{}, moe::SerialDispatcher{}, moe::Dropless{}, moe::Ffn<moe::Relu>{}};
