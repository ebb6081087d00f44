// error: moe::Layer: a dispatcher has static constexpr SlotLayout layout<CapacityT>, see
// moe/dispatch/dispatcher.hpp
#include "parts.hpp"

struct Dispatcher {
  static moe::SelfCommunicator communicator();
};
moe::Layer layer{parts::Router{}, moe::Dropless{}, Dispatcher{}, moe::Ffn<moe::Relu>{}};
