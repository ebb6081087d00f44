// error: moe::Layer: a dispatcher has void backward_data, combine_backward and backward_weights,
// see moe/dispatch/dispatcher.hpp
#include "train.hpp"

struct Dispatcher : moe::SerialDispatcher {
  void combine_backward() const;
};
int main()
{
  parts::train(moe::Layer{parts::Router{}, moe::Dropless{}, Dispatcher{}, moe::Ffn<moe::Relu>{}});
}
