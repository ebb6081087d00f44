// error: moe::Layer: a dispatcher has the templates Saved and Work of <T, ExecT, KernelT>, see
// moe/dispatch/dispatcher.hpp
#include "parts.hpp"

struct Dispatcher : moe::SerialDispatcher {
  struct Work {};
};
moe::Layer layer{parts::Router{}, moe::Dropless{}, Dispatcher{}, moe::Ffn<moe::Relu>{}};
