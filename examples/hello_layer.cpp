// A whole program: composes a layer, initialises it and teaches it y = -x by plain gradient
// descent. Ends with 0 when it has learnt it.
// [readme]
#include <moe/moe.hpp>

#include <cstdio>
#include <vector>

int main()
{
  moe::Host exec;                                             // threads and memory
  moe::Layer layer{moe::SoftmaxTopK<2, moe::renormalized>{},  // router
                   moe::Dropless{},                           // capacity policy
                   moe::BatchedDispatcher{},                  // all experts in one call
                   moe::Ffn<moe::SwiGlu>{},                   // expert kernel
                   moe::SwitchLoss{.coeff = 1e-2}};           // any number of losses
  auto params = layer.make_params<float>(exec, {.hidden = 8, .experts = 4, .expert = {.ffn = 32}});
  auto grads  = layer.make_params<float>(exec, params.sizes());
  moe::initialize(exec, params.view(), 42);

  std::vector<float> x(256 * 8), y(x), dy(x), dx(x);
  auto const view = [](auto& v) { return moe::View<float, 2, moe::Host>(v.data(), 256, 8); };
  float error     = 0;
  for (unsigned step = 0; step <= 100; ++step) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = std::sin(static_cast<float>(i * i + step));
    }
    auto const saved = layer.forward(exec, params, view(x), view(y));
    error            = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      dy[i] = y[i] + x[i];
      error += dy[i] * dy[i] / static_cast<float>(x.size());
    }
    layer.backward(exec, params, saved, view(x), view(dy), grads.view(), view(dx));
    for (moe::index_t i = 0; i < params.flat().size(); ++i) {
      params.flat()(i) -= 4e-3f * grads.flat()(i);
      grads.flat()(i) = 0;
    }
    if (step % 25 == 0) { std::printf("step %3d: error %.4f\n", step, error); }
  }
  layer.evaluate(exec, params, view(x), view(y));
  return error < 0.05f ? 0 : 1;
}
// [/readme]
