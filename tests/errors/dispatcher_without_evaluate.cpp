// error: moe::Layer: a dispatcher has void evaluate(exec, in, experts, addend, y) const and
// forward(exec, in, experts, saved, addend, y) const
#include "train.hpp"

struct Dispatcher : moe::SerialDispatcher {
  void evaluate() const;
};
int main()
{
  parts::train(moe::Layer{parts::Router{}, moe::Dropless{}, Dispatcher{}, moe::Ffn<moe::Relu>{}});
}
