// The plan: ids and weights -> which assignment sits in which slot, by capacity policy.
#include "main.hpp"
#include "routing_case.hpp"
#include "timer.hpp"

namespace moe_bench {
namespace {

template <class ExecT, class CapacityT>
void plan(benchmark::State& state)
{
  using RouterT   = moe::SoftmaxTopK<2, moe::renormalized>;
  index_t const T = state.range(0), E = state.range(1);
  RoutingCase<ExecT, RouterT> work(T, E);
  auto row_max     = uniform_tensor<float>(work.exec(), T, 1, 5);
  auto const shape = moe::RoutingShape{T, E, RouterT::top_k};
  auto const slots =
      moe::slots_bound(CapacityT{}, moe::SlotLayout::compact, shape, T * RouterT::top_k);
  moe::RoutingPlan<ExecT> made(work.exec(), moe::SlotLayout::compact, E, T * RouterT::top_k, slots);
  measure(state, work.exec(), [&] {
    moe::make_plan(work.exec(),
                   moe::SelfCommunicator{},
                   CapacityT{},
                   shape,
                   work.routing,
                   moe::View<float const, 1, ExecT>(row_max.view().data_handle(), T),
                   made);
  });
  moe::Id dropped = 0;
  work.exec().copy_to_host(&dropped, made.dropped_count.view().data_handle(), sizeof(dropped));
  state.counters["drop_rate"] =
      static_cast<double>(dropped) / static_cast<double>(T * RouterT::top_k);
  state.counters["tokens/s"] = per_second(static_cast<double>(T));
}

void shapes(benchmark::internal::Benchmark* b)
{
  b->ArgNames({"T", "E"})->ArgsProduct({{1024, 8192}, {8, 64, 256}})->UseManualTime();
  b->Unit(benchmark::kMicrosecond);
}

MOE_BENCHMARK(plan, moe::Dropless)->Apply(shapes);
MOE_BENCHMARK(plan, moe::DropByPosition<>)->Apply(shapes);
MOE_BENCHMARK(plan, moe::DropByWeight<>)->Apply(shapes);
MOE_BENCHMARK(plan, moe::DropByTokenPriority<>)->Apply(shapes);

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv);
}
