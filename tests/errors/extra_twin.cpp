// compiles
#include <moe/route/given_routing.hpp>

#include "train.hpp"

struct Loss : parts::Loss {};
struct Gate : parts::Gate {};

int main()
{
  moe::SharedExpert<parts::Expert> const shared{};
  moe::SerialDispatcher const serial{};
  parts::train(moe::Layer{
      parts::Router{}, moe::Dropless{}, serial, parts::Expert{}, shared, Loss{}, Gate{}, Loss{}});
  parts::train(
      moe::Layer{moe::GivenRouting<2>{}, moe::Dropless{}, serial, parts::Expert{}, shared});
}
