// error: backward needs this state; evaluate keeps none
// flags: -Werror=unused-result
#include "train.hpp"

void call(moe::Host const& exec,
          moe::Tensor<float, 2, moe::Host>& x,
          moe::Tensor<float, 2, moe::Host>& y)
{
  moe::Layer layer{
      parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
  auto params = layer.make_params<float>(exec, {.hidden = 4, .experts = 4});
  layer.forward(exec, params, x.const_view(), y.view());
}
