// compiles
#include "train.hpp"

struct Expert : parts::Expert {};

int main()
{
  moe::SharedExpert<Expert> const shared{};
  parts::train(
      moe::Layer{parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, Expert{}, shared});
}
