// error: moe::Layer: a dispatcher has communicator(), see moe/dispatch/dispatcher.hpp
#include "parts.hpp"

struct Dispatcher : moe::SerialDispatcher {
  void communicator() const;
};
moe::Layer layer{parts::Router{}, moe::Dropless{}, Dispatcher{}, moe::Ffn<moe::Relu>{}};
