// error: moe::overwrite: gradients are views, as grads.view() of what make_params gave
#include "train.hpp"

void call(moe::Host const& exec,
          moe::Tensor<float, 2, moe::Host>& x,
          moe::Tensor<float, 2, moe::Host>& y)
{
  moe::Layer layer{
      parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
  auto params = layer.make_params<float>(exec, {.hidden = 4, .experts = 4});
  auto grads  = layer.make_params<float>(exec, params.sizes());
  auto saved  = layer.forward(exec, params, x.const_view(), y.view());
  layer.backward(
      exec, params, saved, x.const_view(), y.const_view(), moe::overwrite(grads), x.view());
}
