// compiles
#include "train.hpp"

struct Dispatcher : moe::SerialDispatcher {};
int main()
{
  parts::train(moe::Layer{parts::Router{}, moe::Dropless{}, Dispatcher{}, moe::Ffn<moe::Relu>{}});
}
