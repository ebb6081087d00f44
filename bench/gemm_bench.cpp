// The space's products: dense, and over the rows of each expert; the library's own and a BLAS's.
#include "data.hpp"
#include "main.hpp"
#include "timer.hpp"

namespace moe_bench {
namespace {

using moe::Products, moe::Transpose;

double flops(index_t m, index_t n, index_t k)
{
  return 2. * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

template <class ExecT, class T, Products ProductsV>
void gemm(benchmark::State& state)
{
  index_t const n = state.range(0);
  Space<ExecT> const space(ProductsV);
  auto const a = uniform_tensor<T>(space.exec(), n, n, 1),
             b = uniform_tensor<T>(space.exec(), n, n, 2);
  auto c       = uniform_tensor<T>(space.exec(), n, n, 3);
  measure(state, space.exec(), [&] {
    moe::gemm(space.exec(),
              Transpose::no,
              a.view(),
              Transpose::yes,
              b.view(),
              moe::Result::overwrite,
              c.view());
  });
  state.counters["FLOP/s"] = per_second(flops(n, n, n));
}

// One call for all experts; cuBLAS has to be called for each.
template <Products ProductsV, class ExecT, class Product>
void each_call([[maybe_unused]] ExecT const& exec,
               moe::RowGroups<ExecT> const& groups,
               Product const& product)
{
#if defined(__CUDACC__)
  if (ProductsV == Products::blas) { return moe::for_each_expert(exec, groups, product); }
#endif
  product(groups);
}

// E experts with `rows` rows each, (K) -> (N).
template <class ExecT, class T, Products ProductsV, bool OfWeights>
void grouped(benchmark::State& state)
{
  index_t const E = state.range(0), rows = state.range(1), N = state.range(2), K = state.range(3);
  Space<ExecT> const space(ProductsV);
  auto const& exec = space.exec();
  auto const a     = uniform_tensor<T>(exec, E * rows, K, 1);
  auto w           = uniform_tensor<T>(exec, E * N, K, 2);
  auto c           = uniform_tensor<T>(exec, E * rows, N, 3);
  std::vector<moe::Id> at;
  for (index_t e = 0; e <= E; ++e) {
    at.push_back(static_cast<moe::Id>(e * rows));
  }
  auto const offsets = tensor_of(exec, at);
  moe::RowGroups<ExecT> const groups{
      offsets.const_view(), {}, E * rows, 0, static_cast<moe::Id>(E)};
  moe::IndexedRows<T, ExecT> const a_rows{a.const_view(), {}}, c_rows{c.const_view(), {}};
  moe::View<T, 3, ExecT> const weights(w.view().data_handle(), E, N, K);
  auto const product = [&](moe::RowGroups<ExecT> const& some) {
    if constexpr (OfWeights) {
      moe::grouped_gemm_weights(exec, some, c_rows, a_rows, weights);
    } else {
      moe::View<T const, 2, ExecT> const no_bias;
      moe::grouped_gemm_rows(exec, some, a_rows, Transpose::yes, weights, no_bias, c.view());
    }
  };
  measure(state, exec, [&] { each_call<ProductsV>(exec, groups, product); });
  state.counters["FLOP/s"] = per_second(flops(E * rows, N, K));
}
template <class ExecT, class T, Products ProductsV>
void grouped_rows(benchmark::State& state)
{
  grouped<ExecT, T, ProductsV, false>(state);
}
template <class ExecT, class T, Products ProductsV>
void grouped_weights(benchmark::State& state)
{
  grouped<ExecT, T, ProductsV, true>(state);
}

void square(benchmark::internal::Benchmark* b)
{
  b->ArgName("n")->Arg(128)->Arg(512)->UseManualTime()->Unit(benchmark::kMicrosecond);
}
void by_expert(benchmark::internal::Benchmark* b)
{
  b->ArgNames({"E", "rows", "N", "K"})->Args({8, 128, 512, 256})->Args({128, 8, 512, 256});
  b->UseManualTime()->Unit(benchmark::kMicrosecond);
}

using moe::BFloat16;

MOE_BENCHMARK(gemm, float, Products::own)->Apply(square);
MOE_BENCHMARK(gemm, moe::Half, Products::own)->Apply(square);
MOE_BENCHMARK(gemm, BFloat16, Products::own)->Apply(square);
MOE_BENCHMARK(grouped_rows, float, Products::own)->Apply(by_expert);
MOE_BENCHMARK(grouped_rows, BFloat16, Products::own)->Apply(by_expert);
MOE_BENCHMARK(grouped_weights, float, Products::own)->Apply(by_expert);
MOE_BENCHMARK(grouped_weights, BFloat16, Products::own)->Apply(by_expert);
#if MOE_BENCH_HAS_DOUBLE
MOE_BENCHMARK(gemm, double, Products::own)->Apply(square);
#endif
#if MOE_BENCH_HAS_BLAS
MOE_BENCHMARK(gemm, float, Products::blas)->Apply(square);
MOE_BENCHMARK(grouped_rows, float, Products::blas)->Apply(by_expert);
MOE_BENCHMARK(grouped_weights, float, Products::blas)->Apply(by_expert);
#endif
#if MOE_BENCH_HAS_BLAS && MOE_BENCH_HAS_DOUBLE
MOE_BENCHMARK(gemm, double, Products::blas)->Apply(square);
#endif

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv);
}
