// error: moe::Layer: a gate has Sizes and the templates Params, Saved and Carry of <T, ExecT>, see
// moe/route/gate.hpp
#include "parts.hpp"

struct Gate : parts::Gate {
  struct Sizes {};
};
moe::Layer layer{
    parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}, Gate{}};
