// error: moe::Layer: an expert kernel has void backward_weights(exec, saved, groups, x, dy, weight,
// carry, grads) const for this element type and space
#include "train.hpp"

struct Expert : parts::Expert {
  void backward_weights() const;
};
int main()
{
  parts::train(moe::Layer{parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, Expert{}});
}
