// Gates: tokens -> logits, and the gradient's way back to tokens and weights.
#include "data.hpp"
#include "main.hpp"
#include "timer.hpp"

namespace moe_bench {
namespace {

template <class ExecT, class GateT>
struct GateCase {
  using Layout = moe::GateLayout<typename GateT::Sizes>;

  GateCase(index_t T, index_t D, index_t E)
      : layout{E, D, {}},
        params{exec(), layout},
        grads{exec(), layout},
        x{uniform_tensor<float>(exec(), T, D, 1)},
        d_logits{uniform_tensor<float>(exec(), T, E, 2)},
        logits{exec(), T, E},
        dx{exec(), T, D},
        saved{gate.template make_saved<float>(exec(), layout, T)},
        carry{gate.template make_carry<float>(exec(), layout, T)}
  {
    fill(exec(), params.flat(), 3, 0.1f);
    forward();
  }
  [[nodiscard]] ExecT const& exec() const { return space.exec(); }

  void forward()
  {
    gate.forward(exec(), params.const_view(), no_step, x.const_view(), saved, logits.view());
  }
  void backward()
  {
    gate.backward_data(exec(),
                       params.const_view(),
                       saved,
                       no_step,
                       x.const_view(),
                       d_logits.const_view(),
                       carry,
                       dx.view());
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
  moe::OwnedParams<GateT::template Params, float, Layout, ExecT> params, grads;
  moe::Tensor<float, 2, ExecT> x, d_logits, logits, dx;
  typename GateT::template Saved<float, ExecT> saved;
  typename GateT::template Carry<float, ExecT> carry;
};

template <class ExecT, class GateT>
void gate_forward(benchmark::State& state)
{
  GateCase<ExecT, GateT> work(state.range(0), state.range(1), state.range(2));
  measure(state, work.exec(), [&] { work.forward(); });
  state.counters["tokens/s"] = per_second(static_cast<double>(state.range(0)));
}

template <class ExecT, class GateT>
void gate_backward(benchmark::State& state)
{
  GateCase<ExecT, GateT> work(state.range(0), state.range(1), state.range(2));
  measure(state, work.exec(), [&] { work.backward(); });
  state.counters["tokens/s"] = per_second(static_cast<double>(state.range(0)));
}

void shapes(benchmark::internal::Benchmark* b)
{
  b->ArgNames({"T", "D", "E"})->ArgsProduct({{1024}, {512}, {8, 64, 256}})->UseManualTime();
  b->Unit(benchmark::kMicrosecond);
}

MOE_BENCHMARK(gate_forward, moe::LinearGate)->Apply(shapes);
MOE_BENCHMARK(gate_forward, moe::BiasedLinearGate)->Apply(shapes);
MOE_BENCHMARK(gate_forward, moe::LowRankGate)->Apply(shapes);
MOE_BENCHMARK(gate_forward, moe::CosineGate)->Apply(shapes);
MOE_BENCHMARK(gate_backward, moe::LinearGate)->Apply(shapes);
MOE_BENCHMARK(gate_backward, moe::BiasedLinearGate)->Apply(shapes);
MOE_BENCHMARK(gate_backward, moe::LowRankGate)->Apply(shapes);
MOE_BENCHMARK(gate_backward, moe::CosineGate)->Apply(shapes);

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv);
}
