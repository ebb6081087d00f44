#pragma once
// A call of everything that a layer does, for what is refused only where it is called.
#include <moe/exec/host/primitives.hpp>

#include "parts.hpp"

namespace parts {

// A space of its own, as another backend's would be.
struct Device : moe::Host {
  static Device none() { return Device(Host::none()); }
  Device lane(int) const { return *this; }

 private:
  explicit Device(Host const& host) : Host(host) {}
};
static_assert(moe::ExecutionSpace<Device>);

template <class LayerT>
void train(LayerT const& layer)
{
  moe::Host exec;
  auto params = layer.template make_params<float>(exec, {.hidden = 4, .experts = 4});
  auto grads  = layer.template make_params<float>(exec, params.sizes());
  moe::Tensor<float, 2, moe::Host> x(exec, 8, 4), y(exec, 8, 4), dx(exec, 8, 4);
  auto saved = layer.forward(exec, params, x.const_view(), y.view());
  layer.backward(exec, params, saved, x.const_view(), y.const_view(), grads.view(), dx.view());
  layer.evaluate(exec, params, x.const_view(), y.view());
}

}  // namespace parts
