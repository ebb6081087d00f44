// error: moe::Layer: an expert kernel has the templates Params, Saved, Scratch and Carry of <T,
// ExecT>, see moe/expert/expert_kernel.hpp
#include "parts.hpp"

struct Expert : parts::Expert {
  struct Carry {};
};
moe::Layer layer{parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, Expert{}};
