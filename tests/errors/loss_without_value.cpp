// error: moe::Layer: a loss has S row_loss(team, LossRow<S>) const
#include "parts.hpp"

struct Loss : parts::Loss {
  void row_loss() const;
};
moe::Layer layer{
    parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}, Loss{}};
