// Gates: tokens -> logits, and the gradient's way back to tokens and weights.
#include "data.hpp"
#include "main.hpp"
#include "shapes.hpp"
#include "timer.hpp"

namespace moe_bench {
namespace {

// Elements T, gradients of parameters in floats.
template <class ExecT, class GateT, class T>
struct GateCase {
  using Layout = moe::GateLayout<typename GateT::Sizes>;

  GateCase(index_t tokens, index_t D, index_t E)
      : layout{E, D, {}},
        params{exec(), layout},
        grads{exec(), layout},
        x{uniform_tensor<T>(exec(), tokens, D, 1)},
        d_logits{uniform_tensor<float>(exec(), tokens, E, 2)},
        logits{exec(), tokens, E},
        dx{exec(), tokens, D},
        saved{gate.template make_saved<T>(exec(), layout, tokens)},
        carry{gate.template make_carry<T>(exec(), layout, tokens)}
  {
    fill(exec(), params.flat(), 3, 0.1f);
    forward();
  }
  [[nodiscard]] ExecT const& exec() const { return space.exec(); }

  void forward()
  {
    gate.forward(exec(), params.const_view(), no_step, x.const_view(), saved, logits.view());
  }
  void backward_data()
  {
    gate.backward_data(exec(),
                       params.const_view(),
                       saved,
                       no_step,
                       x.const_view(),
                       d_logits.const_view(),
                       carry,
                       dx.view());
  }
  void backward_weights()
  {
    gate.backward_weights(exec(),
                          params.const_view(),
                          saved,
                          no_step,
                          x.const_view(),
                          d_logits.const_view(),
                          carry,
                          grads.view());
  }

  Space<ExecT> space;
  GateT gate{};
  moe::View<moe::StepState const, 1, ExecT> no_step{};
  Layout layout;
  moe::OwnedParams<GateT::template Params, T, Layout, ExecT> params;
  moe::OwnedParams<GateT::template Params, float, Layout, ExecT> grads;
  moe::Tensor<T, 2, ExecT> x;
  moe::Tensor<float, 2, ExecT> d_logits, logits, dx;
  typename GateT::template Saved<T, ExecT> saved;
  typename GateT::template Carry<T, ExecT> carry;
};

template <class ExecT, class GateT, class T, class Run>
void measure_gate(benchmark::State& state, Run const& run)
{
  GateCase<ExecT, GateT, T> work(state.range(0), state.range(1), state.range(2));
  measure(state, work.exec(), [&] { run(work); });
  state.counters["tokens/s"] = per_second(static_cast<double>(state.range(0)));
}
template <class ExecT, class GateT, class T = float>
void gate_forward(benchmark::State& state)
{
  measure_gate<ExecT, GateT, T>(state, [](auto& work) { work.forward(); });
}
template <class ExecT, class GateT, class T = float>
void gate_backward(benchmark::State& state)
{
  measure_gate<ExecT, GateT, T>(state, [](auto& work) {
    work.backward_data();
    work.backward_weights();
  });
}
template <class ExecT, class GateT, class T>
void gate_backward_data(benchmark::State& state)
{
  measure_gate<ExecT, GateT, T>(state, [](auto& work) { work.backward_data(); });
}
template <class ExecT, class GateT, class T>
void gate_backward_weights(benchmark::State& state)
{
  measure_gate<ExecT, GateT, T>(state, [](auto& work) { work.backward_weights(); });
}

void shapes(benchmark::internal::Benchmark* b)
{
  b->ArgNames({"T", "D", "E"})->ArgsProduct({{1024}, {512}, {8, 64, 256}})->UseManualTime();
  b->Unit(benchmark::kMicrosecond);
}
// Of published models.
void models(benchmark::internal::Benchmark* b)
{
  b->ArgNames({"T", "D", "E"})->UseManualTime()->Unit(benchmark::kMicrosecond);
  for (Shape const& shape : {mixtral, qwen3, dsv3}) {
    constexpr bool on_gpu = !std::is_same_v<BenchSpace, moe::Host>;
    Shape const s         = on_gpu ? shape.full() : shape.scaled();
    b->Args({s.tokens, s.hidden, s.experts});
  }
}

MOE_BENCHMARK(gate_forward, moe::LinearGate)->Apply(shapes);
MOE_BENCHMARK(gate_forward, moe::BiasedLinearGate)->Apply(shapes);
MOE_BENCHMARK(gate_forward, moe::LowRankGate)->Apply(shapes);
MOE_BENCHMARK(gate_forward, moe::CosineGate)->Apply(shapes);
MOE_BENCHMARK(gate_backward, moe::LinearGate)->Apply(shapes);
MOE_BENCHMARK(gate_backward, moe::BiasedLinearGate)->Apply(shapes);
MOE_BENCHMARK(gate_backward, moe::LowRankGate)->Apply(shapes);
MOE_BENCHMARK(gate_backward, moe::CosineGate)->Apply(shapes);
MOE_BENCHMARK(gate_forward, moe::LinearGate, moe::BFloat16)->Apply(models);
MOE_BENCHMARK(gate_backward, moe::LinearGate, moe::BFloat16)->Apply(models);
MOE_BENCHMARK(gate_backward_data, moe::LinearGate, moe::BFloat16)->Apply(models);
MOE_BENCHMARK(gate_backward_weights, moe::LinearGate, moe::BFloat16)->Apply(models);

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv);
}
