// error: moe::Layer: a loss has void row_loss_backward(team, LossRow<S>, d_loss, d_logits) const
#include "parts.hpp"

struct Loss : parts::Loss {
  void row_loss_backward() const;
};
moe::Layer layer{
    parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}, Loss{}};
