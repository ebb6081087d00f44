// error: moe::Layer: an argument of forward, backward or evaluate is of another space or element
// type than the others
#include "train.hpp"

void call(moe::Host const& exec,
          moe::Tensor<float, 2, moe::Host>& x,
          moe::Tensor<moe::BFloat16, 2, moe::Host>& y)
{
  moe::Layer layer{
      parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
  auto params = layer.make_params<float>(exec, {.hidden = 4, .experts = 4});
  layer.evaluate(exec, params, y.const_view(), y.view());
}
