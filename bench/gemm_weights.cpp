// On Cuda, the kernels that sum the experts' weights' gradients over their rows, beside each other
// and beside cuBLAS on one dense product of as many operations, which overwrites its result instead
// of adding to one per expert: both uses that a layer makes of them, at full size, with random
// routing.
#if defined(__CUDACC__)
#include <string>

#include "dense_bound.cuh"
#include "gemm_routing.hpp"
#include "main.hpp"
#include "shapes.hpp"

namespace moe_bench {

struct CublasWeights {};  // one dense product
template <int Lead, int OldAhead>
struct WeightsAhead : moe::detail::WeightsTuning {
  static constexpr int lead = Lead, old_ahead = OldAhead;
};
struct Overwriting {};  // by the default tuning

namespace {

using moe::Id, moe::Transpose;
using T = moe::BFloat16;

// dw(e) (M, N), with gathered rows of a or of b.
struct WeightsUse {
  char const* name;
  index_t m, n;
  bool gathered_a;
};

template <class KernelT, class G>
void weights(benchmark::State& state, Shape const& s, WeightsUse const& use)
{
  constexpr bool dense = std::is_same_v<KernelT, CublasWeights>;
  Space<Cuda> const space(dense ? moe::Products::blas : moe::Products::own);
  auto const& exec = space.exec();
  index_t const A = s.tokens * s.top_k, E = s.experts;
  auto const a = uniform_tensor<T>(exec, use.gathered_a && !dense ? s.tokens : A, use.m, 1);
  auto const b = uniform_tensor<T>(exec, use.gathered_a || dense ? A : s.tokens, use.n, 2);
  auto dw      = uniform_tensor<G>(exec, (dense ? 1 : E) * use.m, use.n, 3);
  Routing const routing(s);
  auto const token = tensor_of(exec, routing.token), offsets = tensor_of(exec, routing.offsets);
  moe::RowGroups<Cuda> const groups{offsets.const_view(), {}, A, 0, static_cast<Id>(E)};
  moe::IndexedRows<T, Cuda> a_rows{a.const_view(), {}}, b_rows{b.const_view(), {}};
  (use.gathered_a ? a_rows : b_rows).index = token.const_view();

  bool taken           = true;
  double const seconds = median_seconds(exec, [&] {
    if constexpr (dense) {
      moe::gemm(exec,
                Transpose::yes,
                a.view(),
                Transpose::no,
                b.view(),
                moe::Result::overwrite,
                dw.view());
    } else if constexpr (std::is_same_v<KernelT, Overwriting>) {
      moe::detail::GroupedProduct<T, T, G> const p{
          groups,
          {a.const_view().data_handle(), use.m, a_rows.index.data_handle()},
          {b.const_view().data_handle(), use.n, b_rows.index.data_handle()},
          use.m,
          use.n,
          0,
          use.m,
          nullptr,
          dw.view().data_handle(),
          moe::Result::overwrite};
      taken = moe::detail::hopper_grouped_weights<moe::detail::DefaultWeightsKernel>(
          exec, p, a.const_view().extent(0), b.const_view().extent(0), "bench");
    } else {
      moe::grouped_gemm_weights<KernelT>(
          exec,
          groups,
          a_rows,
          b_rows,
          moe::View<G, 3, Cuda>(dw.view().data_handle(), E, use.m, use.n));
    }
  });
  if (!taken) { return state.SkipWithError("no such kernel here"); }
  for (auto _ : state) {
    state.SetIterationTime(seconds);
  }
  state.counters["FLOP/s"] =
      2. * static_cast<double>(A) * static_cast<double>(use.m * use.n) / seconds;
}

template <class KernelT, class G = T>
void add(char const* kernel, Shape const& s, WeightsUse const& use)
{
  std::string const name = std::string("weights/") + s.name + "/" + use.name + "/" + kernel;
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) { weights<KernelT, G>(state, s, use); })
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

bool const added = [] {
  for (Shape const& shape : {mixtral.full(), qwen3.full(), dsv3.full()}) {
    index_t const D = shape.hidden, F = shape.ffn;
    for (WeightsUse const& use :
         {WeightsUse{"in", 2 * F, D, false}, WeightsUse{"out", D, F, true}}) {
      add<CublasWeights>("cublas_dense", shape, use);
      add<moe::detail::UniformWarps>("uniform", shape, use);
      add<moe::detail::DefaultWeightsKernel>("specialised", shape, use);
      add<Overwriting>("specialised_overwrite", shape, use);
      add<WeightsAhead<0, 6>>("specialised_lead_0", shape, use);
      add<WeightsAhead<2, 6>>("specialised_lead_2", shape, use);
      add<WeightsAhead<4, 6>>("specialised_lead_4", shape, use);
      add<WeightsAhead<1, 0>>("specialised_no_prefetch", shape, use);
      add<WeightsAhead<1, 12>>("specialised_prefetch_12", shape, use);
      add<moe::detail::UniformWarps, float>("uniform_to_float", shape, use);
      add<moe::detail::DefaultWeightsKernel, float>("specialised_to_float", shape, use);
      add<Overwriting, float>("specialised_overwrite_to_float", shape, use);
      add<WeightsAhead<1, 0>, float>("specialised_to_float_no_prefetch", shape, use);
      add<WeightsAhead<2, 6>, float>("specialised_to_float_lead_2", shape, use);
    }
  }
  return true;
}();

}  // namespace
}  // namespace moe_bench
#endif
