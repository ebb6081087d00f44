// Whole layers on Cuda on the named and the odd shapes at full size, bf16 with gradients in bf16,
// beside one dense problem of as many operations on cuBLAS in the same process. Measured as the
// peers are (peers/bench_peers.py): medians of 4 to 25 passes that are queued back to back, however
// short or long --benchmark_min_time.
//
//   layer/<shape>/<serial|batched>/given   ids and weights are given: what the peers' rows contain,
//                                          everything after the routing decision
//   layer/<shape>/<serial|batched>/gated   gate and router too
//   layer/<shape>/batched/given/adding     gradients are added to, as of further micro-batches; in
//                                          the rows above they are overwritten
//   dense_bound/<shape>
//   layer/<shape>_t<T>/<serial|batched>/<given|gated>   T tokens, evaluation alone
//
// A row's time is forward and backward; its counters have the forward pass alone too, what it
// saves, and the time of each phase (of a few passes under a profiler, which takes time itself).
// With few tokens the time is that of reading weights: expert_bytes/s, of the experts that have a
// row.
#include <string>

#include "dense_bound.cuh"
#include "layer_case.hpp"
#include "main.hpp"

namespace moe_bench {
namespace {

using Element = moe::BFloat16;

// Seconds of a forward pass, and of a forward and a backward pass.
struct Times {
  double forward, both;
};

template <class Work, class... ResultT>
Times times_of(Work& work, ResultT... result)
{
  return {median_seconds(work.exec(), [&] { work.forward(); }), median_seconds(work.exec(), [&] {
            work.forward();
            work.backward(result...);
          })};
}

// Of a forward pass: 2 A D (2F) + 2 A F D.
double flops(Shape const& s)
{
  return 6. * static_cast<double>(s.tokens * s.top_k) * static_cast<double>(s.hidden * s.ffn);
}

void report(benchmark::State& state, Shape const& shape, Times const& times)
{
  for (auto _ : state) {
    state.SetIterationTime(times.both);
  }
  state.counters["FLOP/s"]         = 3 * flops(shape) / times.both;
  state.counters["forward_FLOP/s"] = flops(shape) / times.forward;
}

// ms of each phase of a pass, each without the phases within it, and of what is none.
void count_pass(benchmark::State& state, moe::ProfileReport const& report, moe::Phase pass)
{
  for (int stage = 0; stage < moe::ProfileReport::rows; ++stage) {
    bool const other = stage == moe::stage_phases;
    double const ms  = report.times[moe::ProfileReport::pass_index(pass)][stage].ms;
    std::string name = moe::name_of(pass);
    name += std::string("_") + (other ? "other" : moe::name_of(static_cast<moe::Phase>(stage)));
    if (ms > 0) { state.counters[name + "_ms"] = ms; }
  }
}
template <class Work>
void count_phases(benchmark::State& state, Work& work, Result result)
{
  moe::CudaProfiler profiler;
  Cuda const exec = work.exec().with(profiler);
  for (int step = 0; step < 10; ++step) {
    if (step == 2) { profiler.reset(); }
    work.forward(exec);
    work.backward(exec, result);
    profiler.end_step();
  }
  auto const report = profiler.report();
  count_pass(state, report, moe::Phase::forward);
  count_pass(state, report, moe::Phase::backward);
}

// A shape that does not fit this GPU is a row that says so.
template <class Row>
void or_skip(benchmark::State& state, Row const& row)
{
  try {
    row();
  } catch (moe::OutOfMemoryError const& error) {
    state.SkipWithError(error.what());
  }
}

void dense_bound(benchmark::State& state, Shape const& shape)
{
  or_skip(state, [&] {
    DenseBound<Element> dense(shape);
    report(state, shape, times_of(dense));
  });
}

template <int GivenK, class LayerT, class ExpertT>
void layer_row(benchmark::State& state,
               Shape const& shape,
               LayerT const& layer,
               ExpertT const& expert,
               Result result = Result::overwrite)
{
  or_skip(state, [&] {
    auto work = layer_case<Cuda, Element, GivenK>(
        layer, expert, shape, moe::Products::automatic, /*common*/ 0);
    DenseBound<Element> dense(shape);
    auto const of_dense = times_of(dense);
    auto const of_layer = times_of(work, result);
    report(state, shape, of_layer);
    state.counters["of_dense"]             = of_dense.both / of_layer.both;
    state.counters["forward_of_dense"]     = of_dense.forward / of_layer.forward;
    state.counters["dense_FLOP/s"]         = 3 * flops(shape) / of_dense.both;
    state.counters["dense_forward_FLOP/s"] = flops(shape) / of_dense.forward;
    work.count_load(state);
    count_phases(state, work, result);
  });
}

template <int GivenK, class LayerT, class ExpertT>
void evaluate_row(benchmark::State& state,
                  Shape const& shape,
                  LayerT const& layer,
                  ExpertT const& expert)
{
  or_skip(state, [&] {
    auto work = layer_case<Cuda, Element, GivenK>(
        layer, expert, shape, moe::Products::automatic, /*common*/ 0);
    double const time = median_seconds(work.exec(), [&] { work.evaluate(); });
    for (auto _ : state) {
      state.SetIterationTime(time);
    }
    auto const weights = static_cast<double>(3 * shape.hidden * shape.ffn) * sizeof(Element);
    state.counters["forward_FLOP/s"] = flops(shape) / time;
    state.counters["tokens/s"]       = static_cast<double>(shape.tokens) / time;
    state.counters["expert_bytes/s"] = static_cast<double>(work.experts_in_use()) * weights / time;
  });
}

void add_row(std::string const& name, auto const& row)
{
  benchmark::RegisterBenchmark(name.c_str(), row)
      ->Iterations(1)  // of many passes
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

// The layers of a dispatcher: row(name, layer, K that is given or 0).
template <int K, class DispatcherT, class Row>
void for_each_layer(std::string const& name, DispatcherT const& dispatcher, Row const& row)
{
  using RouterT =
      std::conditional_t<K == 1, moe::SoftmaxTopK<K>, moe::SoftmaxTopK<K, moe::renormalized>>;
  moe::Ffn<moe::SwiGlu> const expert{};
  row(name + "/given",
      moe::Layer{moe::GivenRouting<K>{}, moe::Dropless{}, dispatcher, expert},
      std::integral_constant<int, K>{});
  row(name + "/gated",
      moe::Layer{RouterT{}, moe::Dropless{}, dispatcher, expert},
      std::integral_constant<int, 0>{});
}
template <int K, class Row>
void for_each_layer(std::string const& name, Row const& row)
{
  for_each_layer<K>(name + "/serial", moe::SerialDispatcher{}, row);
  for_each_layer<K>(name + "/batched", moe::BatchedDispatcher{}, row);
}

template <int K>
void add(Shape const& named)
{
  Shape const shape      = named.full();
  std::string const name = shape.name;
  add_row("dense_bound/" + name, [=](benchmark::State& state) { dense_bound(state, shape); });
  for_each_layer<K>("layer/" + name, [&](std::string const& of, auto const& layer, auto given) {
    if (shape.zipf > 0 && given() == 0) { return; }  // a gate's choices are its own
    add_row(of, [=](benchmark::State& state) {
      layer_row<given()>(state, shape, layer, moe::Ffn<moe::SwiGlu>{});
    });
  });
  moe::Layer const given{
      moe::GivenRouting<K>{}, moe::Dropless{}, moe::BatchedDispatcher{}, moe::Ffn<moe::SwiGlu>{}};
  add_row("layer/" + name + "/batched/given/adding", [=](benchmark::State& state) {
    layer_row<K>(state, shape, given, moe::Ffn<moe::SwiGlu>{}, Result::add);
  });
}

template <int K>
void add_few_tokens(Shape const& named)
{
  for (index_t const tokens : few_tokens) {
    Shape const shape = named.of_tokens(tokens);
    auto const name   = std::string("layer/") + shape.name + "_t" + std::to_string(tokens);
    for_each_layer<K>(name, [&](std::string const& of, auto const& layer, auto given) {
      add_row(of, [=](benchmark::State& state) {
        evaluate_row<given()>(state, shape, layer, moe::Ffn<moe::SwiGlu>{});
      });
    });
  }
}

void add_all()
{
  auto const add_shape = [](auto top_k, Shape const& shape) { add<top_k()>(shape); };
  for_each_named_shape(add_shape);
  for_each_odd_shape(add_shape);
  add_few_tokens<8>(qwen3);
  add_few_tokens<8>(dsv3);
}

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv, &moe_bench::add_all);
}
