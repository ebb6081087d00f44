// A whole program: composes a layer, initialises it and teaches it y = -x by gradient descent.
// [readme]
#include <moe/moe.hpp>

#include <cstdio>

int main()
{
  moe::Host exec;
  moe::Layer layer{moe::SoftmaxTopK<2, moe::renormalized>{}, moe::Dropless{},
                   moe::BatchedDispatcher{}, moe::Ffn<moe::SwiGlu>{}, moe::SwitchLoss{}};
  auto params = layer.make_params<float>(exec, {.hidden = 8, .experts = 4, .expert = {.ffn = 32}});
  auto grads  = layer.make_params<float>(exec, params.sizes());
  moe::initialize(exec, params.view(), 42);
  std::vector<float> x(256 * 8), y(256 * 8), dy(256 * 8), dx(256 * 8);
  auto view = [](auto& v) { return moe::View<float, 2, moe::Host>(v.data(), 256, 8); };
  for (int step = 0; step <= 100; ++step) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(float(i * i % 997) + float(step));
    auto saved = layer.forward(exec, params, view(x), view(y));
    float error = 0;
    for (std::size_t i = 0; i < x.size(); ++i) error += (dy[i] = y[i] + x[i]) * dy[i] / 2048;
    layer.backward(exec, params, saved, view(x), view(dy), moe::overwrite(grads.view()), view(dx));
    for (moe::index_t i = 0; i < params.flat().size(); ++i)
      params.flat()(i) -= 4e-3f * grads.flat()(i);
    if (step % 25 == 0) std::printf("step %3d: error %.3f\n", step, error);
  }
}
// [/readme]
