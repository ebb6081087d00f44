#pragma once
// All compositions router x capacity x dispatcher of one expert kernel as benchmarks. Names carry
// the policies' types, so --benchmark_filter='SwitchRouter.*mixtral' and the like compare policies:
//   policies/<router>/<capacity>/<dispatcher>/<expert>/<shape>
#include <string>
#include <tuple>
#include <utility>

#include "layer_case.hpp"

namespace moe_bench {

template <class PolicyT>
struct Named {
  explicit Named(std::string type) : name{std::move(type)}
  {
    std::string const space = "moe::";
    for (auto at = name.find(space); at != std::string::npos; at = name.find(space, at)) {
      name.erase(at, space.size());
    }
  }
  std::string name;  // of the type, as it is written
  PolicyT policy{};
};
#define MOE_BENCH_NAMED(...) Named<__VA_ARGS__>(#__VA_ARGS__)

inline auto const routers    = std::tuple{MOE_BENCH_NAMED(moe::SwitchRouter),
                                       MOE_BENCH_NAMED(moe::SoftmaxTopK<2, moe::renormalized>),
                                       MOE_BENCH_NAMED(moe::TopKSoftmax<2>),
                                       MOE_BENCH_NAMED(moe::SigmoidTopK<2, moe::renormalized>)};
inline auto const capacities = std::tuple{MOE_BENCH_NAMED(moe::Dropless),
                                          MOE_BENCH_NAMED(moe::DropByPosition<>),
                                          MOE_BENCH_NAMED(moe::DropByWeight<>)};
inline auto const dispatchers =
    std::tuple{MOE_BENCH_NAMED(moe::SerialDispatcher), MOE_BENCH_NAMED(moe::BatchedDispatcher<>)};

// Small enough for every composition to take its turn.
inline constexpr Shape policy_shapes[] = {{"mixtral", 4096, 14336, 8, 2, 32, 256},
                                          {"qwen3", 2048, 768, 128, 2, 16, 256}};

template <class ExecT, class LayerT, class ExpertT>
void run_policies(benchmark::State& state,
                  LayerT const& layer,
                  ExpertT const& expert,
                  Shape const& shape)
{
  auto work = layer_case<ExecT>(layer, expert, shape, moe::Products::own);
  measure(state, work.exec(), [&] {
    work.forward();
    work.backward();
  });
  work.count(state);
}

template <class ExpertT>
void add_policies(Named<ExpertT> const& expert)
{
  auto const for_each = [](auto const& policies, auto const& visit) {
    std::apply([&](auto const&... p) { (visit(p), ...); }, policies);
  };
  for (auto const& full : policy_shapes) {
    Shape const shape = full.scaled();
    for_each(routers, [&](auto const& router) {
      for_each(capacities, [&](auto const& capacity) {
        for_each(dispatchers, [&](auto const& dispatcher) {
          moe::Layer const layer{
              router.policy, capacity.policy, dispatcher.policy, expert.policy, moe::SwitchLoss{}};
          std::string const name = "policies/" + router.name + '/' + capacity.name + '/' +
                                   dispatcher.name + '/' + expert.name + '/' + shape.name;
          benchmark::RegisterBenchmark(name.c_str(),
                                       [=, kernel = expert.policy](benchmark::State& state) {
                                         run_policies<BenchSpace>(state, layer, kernel, shape);
                                       })
              ->UseManualTime()
              ->Unit(benchmark::kMillisecond);
        });
      });
    });
  }
}

// One source each, so that two compilers can work.
void add_swiglu_policies();
void add_gelu_policies();

}  // namespace moe_bench
