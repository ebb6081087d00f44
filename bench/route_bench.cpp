// Routers over all tokens: logits -> ids and weights, and the gradient's way back.
#include "main.hpp"
#include "routing_case.hpp"
#include "timer.hpp"

namespace moe_bench {
namespace {

template <class ExecT, class RouterT>
void route(benchmark::State& state)
{
  RoutingCase<ExecT, RouterT> work(state.range(0), state.range(1));
  measure(state, work.exec(), [&] { work.route(); });
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
  measure(state, work.exec(), [&] {
    moe::as_stage(RouterT{}).route_backward(work.exec(),
                                            work.input(),
                                            work.logits.const_view(),
                                            work.routing.const_view(),
                                            d,
                                            d_logits.view());
  });
  state.counters["tokens/s"] = per_second(static_cast<double>(work.tokens));
}

// Expert choice looks at all logits at once and has no fixed K.
template <class ExecT, class RouterT>
void expert_choice(benchmark::State& state)
{
  index_t const T = state.range(0), E = state.range(1);
  Space<ExecT> const space;
  RouterT const router{.factor = 2};
  auto const logits = uniform_tensor<float>(space.exec(), T, E, 1, 0.5f);
  moe::Routing<float, ExecT> routing(space.exec(), T, router.assignments(T, E), 0);
  measure(state, space.exec(), [&] {
    router.route(space.exec(),
                 moe::SelfCommunicator{},
                 moe::RoutingInput<float, ExecT>{T, E},
                 logits.const_view(),
                 routing.view());
  });
  state.counters["tokens/s"] = per_second(static_cast<double>(T));
}

void shapes(benchmark::internal::Benchmark* b)
{
  b->ArgNames({"T", "E"})->ArgsProduct({{4096}, {8, 64, 256}})->UseManualTime();
  b->Unit(benchmark::kMicrosecond);
}

using moe::renormalized;

MOE_BENCHMARK(route, moe::SwitchRouter)->Apply(shapes);
MOE_BENCHMARK(route, moe::SoftmaxTopK<2, renormalized>)->Apply(shapes);
MOE_BENCHMARK(route, moe::SoftmaxTopK<8, renormalized>)->Apply(shapes);
MOE_BENCHMARK(route, moe::TopKSoftmax<2>)->Apply(shapes);
MOE_BENCHMARK(route, moe::SigmoidTopK<8, renormalized>)->Apply(shapes);
MOE_BENCHMARK(route, moe::NoisyTopK<2>)->Apply(shapes);
MOE_BENCHMARK(expert_choice, moe::ExpertChoice)->Apply(shapes);
MOE_BENCHMARK(route_backward, moe::SwitchRouter)->Apply(shapes);
MOE_BENCHMARK(route_backward, moe::SoftmaxTopK<2, renormalized>)->Apply(shapes);
MOE_BENCHMARK(route_backward, moe::SoftmaxTopK<8, renormalized>)->Apply(shapes);
MOE_BENCHMARK(route_backward, moe::TopKSoftmax<2>)->Apply(shapes);
MOE_BENCHMARK(route_backward, moe::SigmoidTopK<8, renormalized>)->Apply(shapes);
MOE_BENCHMARK(route_backward, moe::NoisyTopK<2>)->Apply(shapes);

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv);
}
