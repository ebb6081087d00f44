// Whole layers on Cuda on the named shapes at full size, bf16 with gradients in bf16, beside one
// dense problem of as many operations on cuBLAS in the same process. Measured as the peers are
// (peers/bench_peers.py): medians of 4 to 25 passes that are queued back to back, however short or
// long --benchmark_min_time.
//
//   layer/<shape>/<serial|batched>/given   ids and weights are given: what the peers' rows contain,
//                                          everything after the routing decision
//   layer/<shape>/<serial|batched>/gated   gate and router too
//   dense_bound/<shape>
//
// A row's time is forward and backward; its counters have the forward pass alone too.
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

template <class Work>
Times times_of(Work& work)
{
  return {median_seconds(work.exec(), [&] { work.forward(); }), median_seconds(work.exec(), [&] {
            work.forward();
            work.backward();
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
               ExpertT const& expert)
{
  or_skip(state, [&] {
    auto work = layer_case<Cuda, Element, GivenK>(
        layer, expert, shape, moe::Products::automatic, /*common*/ 0);
    DenseBound<Element> dense(shape);
    auto const of_dense = times_of(dense);
    auto const of_layer = times_of(work);
    report(state, shape, of_layer);
    state.counters["of_dense"]             = of_dense.both / of_layer.both;
    state.counters["forward_of_dense"]     = of_dense.forward / of_layer.forward;
    state.counters["dense_FLOP/s"]         = 3 * flops(shape) / of_dense.both;
    state.counters["dense_forward_FLOP/s"] = flops(shape) / of_dense.forward;
    work.count_load(state);
  });
}

void add_row(std::string const& name, auto const& row)
{
  benchmark::RegisterBenchmark(name.c_str(), row)
      ->Iterations(1)  // of many passes
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

template <int K, class DispatcherT>
void add_layers(std::string const& name, Shape const& shape, DispatcherT const& dispatcher)
{
  moe::Ffn<moe::SwiGlu> const expert{};
  moe::Layer const given{moe::GivenRouting<K>{}, moe::Dropless{}, dispatcher, expert};
  moe::Layer const gated{
      moe::SoftmaxTopK<K, moe::renormalized>{}, moe::Dropless{}, dispatcher, expert};
  add_row(name + "/given",
          [=](benchmark::State& state) { layer_row<K>(state, shape, given, expert); });
  add_row(name + "/gated",
          [=](benchmark::State& state) { layer_row<0>(state, shape, gated, expert); });
}

template <int K>
void add(Shape const& named)
{
  Shape const shape      = named.full();
  std::string const name = shape.name;
  add_row("dense_bound/" + name, [=](benchmark::State& state) { dense_bound(state, shape); });
  add_layers<K>("layer/" + name + "/serial", shape, moe::SerialDispatcher{});
  add_layers<K>("layer/" + name + "/batched", shape, moe::BatchedDispatcher{});
}

void add_all()
{
  for_each_named_shape([](auto top_k, Shape const& shape) { add<top_k()>(shape); });
}

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv, &moe_bench::add_all);
}
