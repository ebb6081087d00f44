// Losses: load and value, and the gradient with respect to the logits.
#include "main.hpp"
#include "routing_case.hpp"
#include "timer.hpp"

namespace moe_bench {
namespace {

template <class ExecT, class LossT>
struct LossCase {
  using RouterT = moe::SoftmaxTopK<2, moe::renormalized>;

  LossCase(index_t T, index_t E)
      : routing{T, E},
        load{routing.exec(), LossT::scope == moe::LoadScope::sequence ? index_t{8} : index_t{1}, E},
        value{routing.exec(), 1},
        d_logits{uniform_tensor<float>(routing.exec(), T, E, 2)}
  {
    forward();
  }
  void forward()
  {
    moe::count_load<LossT>(
        routing.exec(), moe::SelfCommunicator{}, routing.input(), routing.routing, load);
    moe::loss_value(routing.exec(),
                    loss,
                    routing.input(),
                    routing.logits.const_view(),
                    load,
                    RouterT::top_k,
                    value.view());
  }
  void backward()
  {
    moe::loss_backward(routing.exec(),
                       loss,
                       routing.input(),
                       routing.logits.const_view(),
                       load,
                       RouterT::top_k,
                       d_logits.view());
  }

  RoutingCase<ExecT, RouterT> routing;
  LossT loss{};
  moe::Load<float, ExecT> load;
  moe::Tensor<float, 1, ExecT> value;
  moe::Tensor<float, 2, ExecT> d_logits;
};

template <class ExecT, class LossT>
void loss_value(benchmark::State& state)
{
  LossCase<ExecT, LossT> work(state.range(0), state.range(1));
  measure(state, work.routing.exec(), [&] { work.forward(); });
  state.counters["tokens/s"] = per_second(static_cast<double>(state.range(0)));
}

template <class ExecT, class LossT>
void loss_backward(benchmark::State& state)
{
  LossCase<ExecT, LossT> work(state.range(0), state.range(1));
  measure(state, work.routing.exec(), [&] { work.backward(); });
  state.counters["tokens/s"] = per_second(static_cast<double>(state.range(0)));
}

void shapes(benchmark::internal::Benchmark* b)
{
  b->ArgNames({"T", "E"})->ArgsProduct({{4096}, {8, 64, 256}})->UseManualTime();
  b->Unit(benchmark::kMicrosecond);
}

MOE_BENCHMARK(loss_value, moe::SwitchLoss)->Apply(shapes);
MOE_BENCHMARK(loss_value, moe::GShardLoss)->Apply(shapes);
MOE_BENCHMARK(loss_value, moe::MiniMindSequenceLoss)->Apply(shapes);
MOE_BENCHMARK(loss_value, moe::DeepSeekSequenceLoss)->Apply(shapes);
MOE_BENCHMARK(loss_value, moe::RouterZLoss)->Apply(shapes);
MOE_BENCHMARK(loss_backward, moe::SwitchLoss)->Apply(shapes);
MOE_BENCHMARK(loss_backward, moe::GShardLoss)->Apply(shapes);
MOE_BENCHMARK(loss_backward, moe::MiniMindSequenceLoss)->Apply(shapes);
MOE_BENCHMARK(loss_backward, moe::DeepSeekSequenceLoss)->Apply(shapes);
MOE_BENCHMARK(loss_backward, moe::RouterZLoss)->Apply(shapes);

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv);
}
