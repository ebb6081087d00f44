// Expert kernels on rows that are there already, E experts with as many each, by activation and
// element type.
#include "data.hpp"
#include "main.hpp"
#include "timer.hpp"

namespace moe_bench {
namespace {

template <class ExecT, class T, class ExpertT>
struct ExpertCase {
  using Layout = moe::ExpertLayout<typename ExpertT::Sizes>;

  ExpertCase(index_t E, index_t rows_each, index_t D, index_t F)
      : layout{E, D, {F}},
        params{exec(), layout},
        grads{exec(), layout},
        rows{E * rows_each},
        x{uniform_tensor<T>(exec(), rows, D, 1)},
        dy{uniform_tensor<T>(exec(), rows, D, 2)},
        out{exec(), rows, D},
        dx{exec(), rows, D},
        weight{exec(), rows},
        d_weight{exec(), rows},
        saved{expert.template make_saved<T>(exec(), layout, rows)},
        carry{expert.template make_carry<T>(exec(), layout, rows)},
        scratch{expert.template make_scratch<T>(exec(), layout, rows, moe::Pass::forward)}
  {
    fill(exec(), params.flat(), 3, 0.1f);
    fill(exec(), moe::View<float, 2, ExecT>(weight.view().data_handle(), rows, 1), 4);
    std::vector<moe::Id> at;
    for (index_t e = 0; e <= E; ++e) {
      at.push_back(static_cast<moe::Id>(e * rows_each));
    }
    offsets = tensor_of(exec(), at);
    groups  = {offsets.const_view(), {}, rows, 0, static_cast<moe::Id>(E)};
    forward();
  }
  [[nodiscard]] ExecT const& exec() const { return space.exec(); }

  void forward()
  {
    expert.forward(exec(), params.const_view(), groups, of(x), saved, scratch, out.view());
  }
  void backward()
  {
    expert.backward_data(exec(),
                         params.const_view(),
                         saved,
                         groups,
                         of(x),
                         of(dy),
                         weight.const_view(),
                         carry,
                         dx.view(),
                         d_weight.view());
    expert.backward_weights(
        exec(), saved, groups, of(x), of(dy), weight.const_view(), carry, grads.view());
  }
  [[nodiscard]] double flops() const
  {
    return 2. * static_cast<double>(rows * layout.hidden * layout.own.ffn) * (ExpertT::arity + 1);
  }
  static moe::IndexedRows<T, ExecT> of(moe::Tensor<T, 2, ExecT> const& t)
  {
    return {t.const_view(), {}};
  }

  Space<ExecT> space;
  ExpertT expert{};
  Layout layout;
  moe::OwnedParams<ExpertT::template Params, T, Layout, ExecT> params, grads;
  index_t rows;
  moe::Tensor<T, 2, ExecT> x, dy, out, dx;
  moe::Tensor<float, 1, ExecT> weight, d_weight;
  moe::Tensor<moe::Id, 1, ExecT> offsets;
  moe::RowGroups<ExecT> groups;
  typename ExpertT::template Saved<T, ExecT> saved;
  typename ExpertT::template Carry<T, ExecT> carry;
  typename ExpertT::template Scratch<T, ExecT> scratch;
};

template <class ExecT, class T, class ExpertT>
void expert_forward(benchmark::State& state)
{
  ExpertCase<ExecT, T, ExpertT> work(
      state.range(0), state.range(1), state.range(2), state.range(3));
  measure(state, work.exec(), [&] { work.forward(); });
  state.counters["FLOP/s"] = per_second(work.flops());
}

template <class ExecT, class T, class ExpertT>
void expert_backward(benchmark::State& state)
{
  ExpertCase<ExecT, T, ExpertT> work(
      state.range(0), state.range(1), state.range(2), state.range(3));
  measure(state, work.exec(), [&] { work.backward(); });
  state.counters["FLOP/s"] = per_second(2 * work.flops());
}

void shapes(benchmark::internal::Benchmark* b)
{
  b->ArgNames({"E", "rows", "D", "F"})->Args({8, 64, 256, 512})->Args({64, 8, 256, 512});
  b->UseManualTime()->Unit(benchmark::kMillisecond);
}

using moe::BFloat16, moe::Ffn, moe::with_bias;

MOE_BENCHMARK(expert_forward, float, Ffn<moe::Relu>)->Apply(shapes);
MOE_BENCHMARK(expert_forward, float, Ffn<moe::Gelu>)->Apply(shapes);
MOE_BENCHMARK(expert_forward, float, Ffn<moe::SwiGlu>)->Apply(shapes);
MOE_BENCHMARK(expert_forward, float, Ffn<moe::GeGlu>)->Apply(shapes);
MOE_BENCHMARK(expert_forward, float, Ffn<moe::ClampedGlu, with_bias>)->Apply(shapes);
MOE_BENCHMARK(expert_forward, BFloat16, Ffn<moe::SwiGlu>)->Apply(shapes);
MOE_BENCHMARK(expert_backward, float, Ffn<moe::Relu>)->Apply(shapes);
MOE_BENCHMARK(expert_backward, float, Ffn<moe::Gelu>)->Apply(shapes);
MOE_BENCHMARK(expert_backward, float, Ffn<moe::SwiGlu>)->Apply(shapes);
MOE_BENCHMARK(expert_backward, float, Ffn<moe::GeGlu>)->Apply(shapes);
MOE_BENCHMARK(expert_backward, float, Ffn<moe::ClampedGlu, with_bias>)->Apply(shapes);
MOE_BENCHMARK(expert_backward, BFloat16, Ffn<moe::SwiGlu>)->Apply(shapes);

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv);
}
