// compiles
// flags: -Werror=unused-result
#include "train.hpp"

void call(moe::Host const& exec,
          moe::Tensor<float, 2, moe::Host>& x,
          moe::Tensor<float, 2, moe::Host>& y,
          moe::Tensor<float, 2, moe::Host>& dx)
{
  moe::Layer layer{
      parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
  auto params = layer.make_params<float>(exec, {.hidden = 4, .experts = 4});
  auto saved  = layer.forward(exec, params, x.const_view(), y.view());
  auto grads  = layer.make_params<double>(exec, params.sizes());  // gradients may differ
  layer.forward(exec, params, {.x = x.const_view()}, y.view(), saved);
  layer.backward(exec, params, saved, x.const_view(), y.const_view(), grads.view(), dx.view());
  layer.backward(
      exec, params, saved, {.x = x.const_view()}, y.const_view(), grads.view(), dx.view(), {});
  layer.backward(
      exec, params, saved, x.const_view(), y.const_view(), moe::overwrite(grads.view()), dx.view());
  layer.evaluate(exec, params, x.const_view(), y.view());
}
