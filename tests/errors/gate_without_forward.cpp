// error: moe::Layer: a gate has void forward(exec, params, step, x, saved, logits) const for this
// element type and space
#include "train.hpp"

struct Gate : parts::Gate {
  void forward() const;
};
int main()
{
  parts::train(moe::Layer{
      parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}, Gate{}});
}
