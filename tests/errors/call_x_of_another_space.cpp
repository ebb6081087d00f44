// error: moe::Layer: an argument of forward, backward or evaluate is of another space or element
// type than the others
#include "train.hpp"

void call(moe::Host const& exec,
          moe::Tensor<float, 2, moe::Host>& x,
          moe::View<float, 2, parts::Device> from_device)
{
  moe::Layer layer{
      parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
  auto params = layer.make_params<float>(exec, {.hidden = 4, .experts = 4});
  auto saved  = layer.forward(exec, params, from_device, x.view());
}
