// Two groups of ranks, each with all experts, train on parts of one batch: gradients summed over
// both, clipped by the norm over all. Ends with 0 when that is, within rounding, what one group
// does.
#include <moe/expert_parallel.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

using moe::Host, moe::index_t;

namespace {

constexpr index_t T = 64, D = 8;  // of all ranks

// [data_parallel_step]
// One step of one rank; `group` holds all experts, `replicas` this rank's.
std::vector<float> gradient(moe::ThreadCommunicator const& world,
                            moe::ThreadCommunicator const& group,
                            moe::ThreadCommunicator const& replicas)
{
  Host const exec({.threads = 1});
  moe::Layer const layer{
      moe::SoftmaxTopK<2, moe::renormalized>{},
      moe::Dropless{},
      moe::AllToAllDispatcher{group},
      moe::Ffn<moe::SwiGlu>{},
      moe::SharedExpert{moe::Ffn<moe::SwiGlu>{}},
      moe::ReproducibleReduction{.block = 8}};  // tokens; each rank has whole ones
  auto params = layer.make_params<float>(
      exec, {.hidden = D, .experts = 4, .expert = {.ffn = 16}, .shared = {{.ffn = 16}}});
  auto grads = layer.make_params<float>(exec, params.sizes());
  moe::initialize(exec, params.view(), 42);

  index_t const here = T / world.size(), first = here * world.rank();
  moe::Tensor<float, 2, Host> x(exec, here, D), y(exec, here, D), dx(exec, here, D);
  for (index_t t = 0; t < here; ++t) {
    for (index_t d = 0; d < D; ++d) {
      x.view()(t, d) = std::sin(static_cast<float>((first + t) * (d + 3) % 997));
    }
  }
  auto const saved = layer.forward(exec, params, x.const_view(), y.view());
  layer.backward(exec, params, saved, x.const_view(), y.const_view(), grads.view(), dx.view());
  layer.all_reduce_gradients(exec, grads.view(), moe::DataParallel{world, replicas});

  double const norm = layer.gradient_norm(exec, grads.view());  // of all experts, each once
  auto const clip   = static_cast<float>(std::min(1.0, 1.0 / norm));
  std::vector<float> clipped;
  for (index_t i = 0; i < grads.flat().size(); ++i) {
    clipped.push_back(grads.flat()(i) * clip);
  }
  return clipped;
}
// [/data_parallel_step]

// Of the first rank of `groups` groups of two: gate, shared expert, and the first half of the
// experts.
std::vector<float> gradient_with(int groups)
{
  std::vector<float> first;
  moe::ThreadWorld(2 * groups).run([&](moe::ThreadCommunicator const& world) {
    auto const group    = world.split(world.rank() / 2, world.rank());
    auto const replicas = world.split(world.rank() % 2, world.rank());
    auto const mine     = gradient(world, group, replicas);
    if (world.rank() == 0) { first = mine; }
  });
  return first;
}

}  // namespace

int main()
{
  auto const one = gradient_with(1), two = gradient_with(2);
  double apart = 0;
  for (std::size_t i = 0; i < one.size(); ++i) {
    apart = std::fmax(apart, std::fabs(one[i] - two[i]));
  }
  std::printf("%zu elements, one group and two differ by %.1e at most\n", one.size(), apart);
  return one.size() == two.size() && apart < 1e-6 ? 0 : 1;
}
