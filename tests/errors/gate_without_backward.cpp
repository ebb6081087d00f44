// error: moe::Layer: a gate has void backward_data(exec, params, saved, step, x, d_logits, carry,
// dx) const and backward_weights, which ends in grads in place of dx
#include "train.hpp"

struct Gate : parts::Gate {
  void backward_weights() const;
};
int main()
{
  parts::train(moe::Layer{
      parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}, Gate{}});
}
