// Where a layer's time goes: two ranks that are threads, each under a profiler of its own.
#include <moe/expert_parallel.hpp>
#include <moe/moe.hpp>

#include <cmath>
#include <cstdio>
#include <string>

using moe::Host, moe::index_t;

namespace {

constexpr index_t T = 512, D = 64;  // T tokens at each rank

// [profile]
std::string profile(moe::ThreadCommunicator const& comm)
{
  moe::HostProfiler profiler;  // on a GPU moe::CudaProfiler
  Host const exec = Host({.threads = 1}).with(profiler);
  moe::Layer const layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                         moe::DropByWeight{moe::CeilCapacity{.factor = 1.25}},
                         moe::AllToAllDispatcher{comm},
                         moe::Ffn<moe::SwiGlu>{},
                         moe::SwitchLoss{}};
  auto params = layer.make_params<float>(exec, {.hidden = D, .experts = 8, .expert = {.ffn = 128}});
  auto grads  = layer.make_params<float>(exec, params.sizes());
  moe::initialize(exec, params.view(), 42);
  moe::Tensor<float, 2, Host> x(exec, T, D), y(exec, T, D), dx(exec, T, D);
  for (index_t i = 0; i < T * D; ++i) {
    x.view().data_handle()[i] = std::sin(static_cast<float>(i * i % 997 + comm.rank()));
  }
  for (int step = 0; step < 12; ++step) {
    if (step == 2) { profiler.reset(); }  // the first steps make what is kept
    auto const saved = layer.forward(exec, params, x.const_view(), y.view());
    layer.backward(exec, params, saved, x.const_view(), y.const_view(), grads.view(), dx.view());
    layer.all_reduce_gradients(exec, grads.view());
    profiler.end_step();
    profiler.add_load(saved.statistics(exec));
  }
  return to_text(profiler.report());  // or to_json, to_csv, or the numbers themselves
}
// [/profile]

}  // namespace

int main()
{
  moe::ThreadWorld const world(2);
  world.run([](moe::ThreadCommunicator const& comm) {
    auto const text = profile(comm);
    if (comm.rank() == 0) { std::fputs(text.c_str(), stdout); }
  });
}
