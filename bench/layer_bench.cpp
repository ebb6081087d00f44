// Whole layers on the named shapes, with the library's own products and with a CBLAS: a row times
// forward and backward, its counters hold the forward pass alone too. Each iteration times one
// dense product of as many operations as well, so that of_dense, the layer's rate over the dense
// one's, is of one run on one machine in one state (medians).
#include <string>

#include "dense.hpp"
#include "layer_case.hpp"
#include "main.hpp"

namespace moe_bench {
namespace {

// One rate over another.
double rate_ratio(double flops, double time, double other_flops, double other_time)
{
  return flops / time / (other_flops / other_time);
}

template <class ExecT, int K>
void layer(benchmark::State& state, Shape const& shape, moe::Products products)
{
  moe::Ffn<moe::SwiGlu> const expert{};
  moe::Layer const layer{moe::SoftmaxTopK<K, moe::renormalized>{},
                         moe::Dropless{},
                         moe::BatchedDispatcher{},
                         expert,
                         moe::SwitchLoss{.coeff = 1e-2}};
  auto work  = layer_case<ExecT>(layer, expert, shape, products);
  auto dense = dense_product(shape);
  std::vector<double> dense_times, forward_times, times;
  for (auto _ : state) {
    dense_times.push_back(dense.seconds());
    auto const start = now(work.exec());
    work.forward();
    auto const middle = now(work.exec());
    work.backward();
    auto const end = now(work.exec());
    forward_times.push_back(seconds(start, middle));
    times.push_back(seconds(start, end));
    state.SetIterationTime(times.back());
  }
  work.count(state);
  double const flops               = work.forward_flops();
  state.counters["forward_FLOP/s"] = flops / median(forward_times);
  if (has_dense) {
    double const dense_time    = median(dense_times);
    state.counters["of_dense"] = rate_ratio(3 * flops, median(times), dense.flops(), dense_time);
    state.counters["forward_of_dense"] =
        rate_ratio(flops, median(forward_times), dense.flops(), dense_time);
  }
}

void dense(benchmark::State& state, Shape const& shape)
{
  auto product = dense_product(shape);
  for (auto _ : state) {
    state.SetIterationTime(product.seconds());
  }
  state.counters["FLOP/s"] = per_second(product.flops());
}

benchmark::internal::Benchmark* with_units(benchmark::internal::Benchmark* b)
{
  return b->UseManualTime()->Unit(benchmark::kMillisecond);
}

template <int K>
void add(Shape const& full)
{
  Shape const shape      = full.scaled();
  std::string const name = shape.name;
  if (has_dense) {
    with_units(benchmark::RegisterBenchmark(("dense/" + name).c_str(),
                                            [=](benchmark::State& s) { dense(s, shape); }));
  }
  for (auto const products : {moe::Products::own, moe::Products::blas}) {
#if !defined(MOE_WITH_CBLAS)
    if (products == moe::Products::blas) { continue; }
#endif
    std::string const row = "layer/" + name + (products == moe::Products::own ? "/own" : "/blas");
    with_units(benchmark::RegisterBenchmark(
        row.c_str(), [=](benchmark::State& s) { layer<moe::Host, K>(s, shape, products); }));
  }
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
