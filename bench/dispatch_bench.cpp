// Dispatchers: the same work cut among 8 ... 256 experts, one expert at a time and all at once; and
// the combine alone.
#include "layer_case.hpp"
#include "main.hpp"

namespace moe_bench {
namespace {

// Forward and backward. T K rows of small experts, T K / E for each: what one expert gets shrinks,
// the sum of the operations stays.
template <class ExecT, class DispatcherT, moe::Products ProductsV>
void dispatch(benchmark::State& state)
{
  moe::Ffn<moe::SwiGlu> const expert{};
  moe::Layer const layer{
      moe::SoftmaxTopK<2, moe::renormalized>{}, moe::Dropless{}, DispatcherT{}, expert};
  Shape const shape{"small experts", 128, 64, state.range(0), 2, 1, 1024};
  auto work = layer_case<ExecT>(layer, expert, shape, ProductsV);
  measure(state, work.exec(), [&] {
    work.forward();
    work.backward();
  });
  work.count(state);
}

// y (T, D) from the rows of K experts each.
template <class ExecT, class T>
void combine(benchmark::State& state)
{
  using RouterT        = moe::SoftmaxTopK<2, moe::renormalized>;
  index_t const tokens = state.range(0), D = state.range(1), A = tokens * RouterT::top_k;
  Space<ExecT> const space;
  auto const& exec = space.exec();
  auto const rows  = uniform_tensor<T>(exec, A, D, 1);
  auto y           = uniform_tensor<T>(exec, tokens, D, 2);
  moe::Routing<float, ExecT> routing(exec, tokens, A, RouterT::top_k);
  auto const logits = uniform_tensor<float>(exec, tokens, 64, 3);
  moe::as_stage(RouterT{}).route(exec,
                                 moe::SelfCommunicator{},
                                 moe::RoutingInput<float, ExecT>{tokens, 64},
                                 logits.const_view(),
                                 routing.view());
  moe::RoutingPlan<ExecT> plan(exec, moe::SlotLayout::compact, 64, A, A);
  moe::make_plan(exec,
                 moe::SelfCommunicator{},
                 moe::Dropless{},
                 moe::RoutingShape{tokens, 64, RouterT::top_k},
                 routing,
                 moe::View<float const, 1, ExecT>{},
                 plan);
  measure(state, exec, [&] {
    moe::combine(exec,
                 routing.assignments(),
                 plan,
                 routing.weight.const_view(),
                 rows.const_view(),
                 {},
                 y.view());
  });
  state.counters["bytes/s"] =
      per_second(static_cast<double>((A + tokens) * D) * static_cast<double>(sizeof(T)));
}

void experts(benchmark::internal::Benchmark* b)
{
  b->ArgName("E")->RangeMultiplier(2)->Range(8, 256)->UseManualTime();
  b->Unit(benchmark::kMillisecond);
}
void tokens(benchmark::internal::Benchmark* b)
{
  b->ArgNames({"T", "D"})->Args({1024, 1024})->UseManualTime()->Unit(benchmark::kMicrosecond);
}

using moe::BatchedDispatcher, moe::Products, moe::SerialDispatcher;

MOE_BENCHMARK(dispatch, SerialDispatcher, Products::own)->Apply(experts);
MOE_BENCHMARK(dispatch, BatchedDispatcher<>, Products::own)->Apply(experts);
#if MOE_BENCH_HAS_BLAS
MOE_BENCHMARK(dispatch, SerialDispatcher, Products::blas)->Apply(experts);
MOE_BENCHMARK(dispatch, BatchedDispatcher<>, Products::blas)->Apply(experts);
#endif
MOE_BENCHMARK(combine, float)->Apply(tokens);
MOE_BENCHMARK(combine, moe::BFloat16)->Apply(tokens);

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv);
}
