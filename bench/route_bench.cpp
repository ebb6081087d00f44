// Routers over all tokens: logits -> ids and weights, and the gradient's way back. The rows router/
// are all that a layer does before its experts: gate, route and plan, together and one by one, in
// bfloat16, beside a copy of as many bytes as each must read and write.
#include <string>

#include "beside_copy.hpp"
#include "main.hpp"
#include "routing_case.hpp"
#include "shapes.hpp"
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

template <class ExecT, int K>
struct BeforeExperts {
  using T       = moe::BFloat16;
  using RouterT = moe::SoftmaxTopK<K, renormalized>;
  using GateT   = moe::LinearGate;
  using Layout  = moe::GateLayout<GateT::Sizes>;

  explicit BeforeExperts(Shape const& s)
      : tokens{s.tokens},
        assignments{s.tokens * K},
        layout{s.experts, s.hidden, {}},
        params{exec(), layout},
        x{uniform_tensor<T>(exec(), s.tokens, s.hidden, 1)},
        logits{exec(), s.tokens, s.experts},
        routing{exec(), s.tokens, assignments, K},
        made{exec(), moe::SlotLayout::compact, s.experts, assignments, assignments}
  {
    fill(exec(), params.flat(), 3, 0.1f);
    gate();
    route();
    plan();
  }
  [[nodiscard]] ExecT const& exec() const { return space.exec(); }
  [[nodiscard]] moe::detail::RouteRow<RouterT, float, ExecT> row()
  {
    return {{}, {tokens, layout.columns}, logits.const_view(), routing.view()};
  }

  void gate()
  {
    moe::LinearGate::Saved<T, ExecT> nothing;
    GateT{}.forward(exec(), params.const_view(), {}, x.const_view(), nothing, logits.view());
  }
  void route()
  {
    moe::as_stage(RouterT{}).route(exec(),
                                   moe::SelfCommunicator{},
                                   moe::RoutingInput<float, ExecT>{tokens, layout.columns},
                                   logits.const_view(),
                                   routing.view());
  }
  void plan()
  {
    moe::make_plan(exec(),
                   moe::SelfCommunicator{},
                   moe::Dropless{},
                   {tokens, layout.columns, K},
                   routing,
                   moe::View<float const, 1, ExecT>{},
                   made);
  }
  // What route and plan do for any router, on any space.
  void route_any() { exec().for_each_row(tokens, row()); }
  void plan_by_sort()
  {
    auto const E = static_cast<moe::Id>(layout.columns);
    moe::detail::fill_plan_by_sort(
        exec(),
        moe::detail::SlotsToFill<ExecT>{routing.assignments(),
                                        E,
                                        0,
                                        {made.kept_per_expert.view(),
                                         made.expert_offsets.view(),
                                         made.slot_of.view(),
                                         made.assignment_at.view(),
                                         made.token_at.view(),
                                         made.dropped_list.view(),
                                         made.dropped_count.view(),
                                         made.tokens_per_expert.view()}},
        moe::detail::TakenAsChosen<ExecT>{E, routing.expert.const_view()});
  }

  Space<ExecT> space;
  index_t tokens, assignments;
  Layout layout;
  moe::OwnedParams<GateT::Params, T, Layout, ExecT> params;
  moe::Tensor<T, 2, ExecT> x;           // (T, D)
  moe::Tensor<float, 2, ExecT> logits;  // (T, E)
  moe::Routing<float, ExecT> routing;
  moe::RoutingPlan<ExecT> made;
};

template <int K>
void add_rows(Shape const& whole)
{
  constexpr bool on_gpu = !std::is_same_v<BenchSpace, moe::Host>;
  Shape const s         = on_gpu ? whole.full() : whole.scaled();
  using Case            = BeforeExperts<BenchSpace, K>;
  // Read and written once: tokens, gate, logits; logits; ids, slots, assignments and tokens.
  index_t const A = s.tokens * K, logits = 4 * s.tokens * s.experts;
  index_t const of_gate = 2 * (s.tokens + s.experts) * s.hidden + logits, of_plan = 16 * A;
  auto const add = [&](char const* what, index_t moved, auto const& work) {
    std::string const name = std::string("router/") + what + whole.name;
    benchmark::RegisterBenchmark(name.c_str(),
                                 [s, moved, work](benchmark::State& state) {
                                   Case c(s);
                                   measure_beside_copy(state, c.exec(), moved, [&] { work(c); });
                                 })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  };
  add("", of_gate + logits + 8 * A + of_plan, [](Case& c) {
    c.gate();
    c.route();
    c.plan();
  });
  add("gate/", of_gate, [](Case& c) { c.gate(); });
  add("route/", logits, [](Case& c) { c.route(); });
  add("plan/", of_plan, [](Case& c) { c.plan(); });
  if (!on_gpu) { return; }
  add("route_any/", logits, [](Case& c) { c.route_any(); });
  add("plan_by_sort/", of_plan, [](Case& c) { c.plan_by_sort(); });
}

void register_rows()
{
  for_each_named_shape([](auto k, Shape const& s) { add_rows<k()>(s); });
  add_rows<8>({"E256", 2048, 0, 256, 8, 8, 256, 32768});
}

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv, moe_bench::register_rows);
}
