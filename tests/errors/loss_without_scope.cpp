// error: moe::Layer: a loss names static constexpr LoadScope scope and LoadChoices choices
#include "parts.hpp"

struct Loss : parts::Loss {
  void scope() const;
};
moe::Layer layer{
    parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}, Loss{}};
