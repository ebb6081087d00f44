// A program of another project: one layer, forward only, on memory of its own.
#include <moe/moe.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

int main()
{
  moe::Host exec;
  moe::Layer layer{moe::SwitchRouter{},
                   moe::DropByPosition{moe::CeilCapacity{.factor = 1.25}},
                   moe::BatchedDispatcher{},
                   moe::Ffn<moe::Gelu, moe::with_bias>{}};
  auto params = layer.make_params<float>(exec, {.hidden = 8, .experts = 4, .expert = {.ffn = 16}});
  moe::initialize(exec, params.view(), 3);

  std::vector<float> x(32 * 8), y(x.size(), NAN);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = std::sin(static_cast<float>(i));
  }
  moe::View<float, 2, moe::Host> const rows(x.data(), 32, 8), out(y.data(), 32, 8);
  auto const saved      = layer.forward(exec, params, rows, out);
  auto const statistics = saved.statistics(exec);
  std::printf("moe %d.%d.%d: %.0f%% of the tokens dropped\n",
              MOE_VERSION_MAJOR,
              MOE_VERSION_MINOR,
              MOE_VERSION_PATCH,
              100 * statistics.dropped_fraction());
  for (float const value : y) {
    if (!std::isfinite(value)) { return 1; }
  }
  return 0;
}
