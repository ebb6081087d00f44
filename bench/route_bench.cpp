// Routers over all tokens: logits -> ids and weights, and the gradient's way back.
#include <moe/moe.hpp>

#include "routing_case.hpp"
#include "timer.hpp"

namespace moe_bench {
namespace {

template <class ExecT, class RouterT>
void route(benchmark::State& state)
{
  RoutingCase<ExecT, RouterT> work(state.range(0), state.range(1));
  for (auto _ : state) {
    Timer<ExecT> const timer(state, work.exec());
    work.route();
  }
  state.counters["tokens/s"] = per_second(static_cast<double>(work.tokens));
}

template <class ExecT, class RouterT>
void route_backward(benchmark::State& state)
{
  RoutingCase<ExecT, RouterT> work(state.range(0), state.range(1));
  index_t const A = work.routing.expert.extent(0), N = work.logits.extent(1);
  auto d_weight = uniform_tensor<float>(work.exec(), A, 1, 3);
  auto d_logits = uniform_tensor<float>(work.exec(), work.tokens, N, 4);
  moe::View<float const, 1, ExecT> const d(d_weight.view().data_handle(), A);
  for (auto _ : state) {
    Timer<ExecT> const timer(state, work.exec());
    moe::as_stage(RouterT{}).route_backward(work.exec(),
                                            work.input(),
                                            work.logits.const_view(),
                                            work.routing.const_view(),
                                            d,
                                            d_logits.view());
  }
  state.counters["tokens/s"] = per_second(static_cast<double>(work.tokens));
}

// Expert choice looks at all logits at once and has no fixed K.
template <class ExecT>
void expert_choice(benchmark::State& state)
{
  index_t const T = state.range(0), E = state.range(1);
  Space<ExecT> const space;
  moe::ExpertChoice const router{.factor = 2};
  auto const logits = uniform_tensor<float>(space.exec(), T, E, 1, 0.5f);
  moe::Routing<float, ExecT> routing(space.exec(), T, router.assignments(T, E), 0);
  for (auto _ : state) {
    Timer<ExecT> const timer(state, space.exec());
    router.route(space.exec(),
                 moe::SelfCommunicator{},
                 moe::RoutingInput<float, ExecT>{T, E},
                 logits.const_view(),
                 routing.view());
  }
  state.counters["tokens/s"] = per_second(static_cast<double>(T));
}

void shapes(benchmark::internal::Benchmark* b)
{
  b->ArgNames({"T", "E"})->ArgsProduct({{4096}, {8, 64, 256}})->UseManualTime();
  b->Unit(benchmark::kMicrosecond);
}

using moe::Host, moe::group_limited, moe::renormalized, moe::top2_sum, moe::unnormalized;

BENCHMARK(route<Host, moe::SwitchRouter>)->Apply(shapes);
BENCHMARK(route<Host, moe::SoftmaxTopK<2, renormalized>>)->Apply(shapes);
BENCHMARK(route<Host, moe::SoftmaxTopK<8, renormalized>>)->Apply(shapes);
BENCHMARK(route<Host, moe::TopKSoftmax<2>>)->Apply(shapes);
BENCHMARK(route<Host, moe::SigmoidTopK<8, renormalized>>)->Apply(shapes);
BENCHMARK(route<Host, moe::NoisyTopK<2>>)->Apply(shapes);
BENCHMARK(expert_choice<Host>)->Apply(shapes);
BENCHMARK(route_backward<Host, moe::SwitchRouter>)->Apply(shapes);
BENCHMARK(route_backward<Host, moe::SoftmaxTopK<2, renormalized>>)->Apply(shapes);
BENCHMARK(route_backward<Host, moe::SoftmaxTopK<8, renormalized>>)->Apply(shapes);
BENCHMARK(route_backward<Host, moe::TopKSoftmax<2>>)->Apply(shapes);
BENCHMARK(route_backward<Host, moe::SigmoidTopK<8, renormalized>>)->Apply(shapes);
BENCHMARK(route_backward<Host, moe::NoisyTopK<2>>)->Apply(shapes);

}  // namespace
}  // namespace moe_bench

BENCHMARK_MAIN();
