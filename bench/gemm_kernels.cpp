// On Cuda, the kernels that multiply the experts' rows beside each other and beside cuBLAS on one
// dense product of as many operations: every use that a layer makes of them, at full size, with
// random routing.
#if defined(__CUDACC__)
#include <string>

#include "dense_bound.cuh"
#include "gemm_routing.hpp"
#include "main.hpp"
#include "shapes.hpp"

namespace moe_bench {

struct Cublas {};  // one dense product
struct WarpSpecialised : moe::detail::HopperTuning {
  static constexpr bool trap_when_stuck = true;
};
template <int Lead>
struct Ahead : WarpSpecialised {
  static constexpr int lead = Lead;
};

namespace {

using moe::Id, moe::Transpose;
using T = moe::BFloat16;

// What a layer computes by a rows product: (K) -> (N), with gathered rows or with those of the
// product before.
struct Use {
  char const* name;
  index_t n, k;
  Transpose tw;
  bool gathered;
};
std::vector<Use> uses(Shape const& s)
{
  index_t const D = s.hidden, F = s.ffn;
  return {{"up", 2 * F, D, Transpose::yes, true},
          {"down", D, F, Transpose::yes, false},
          {"dgrad_down", F, D, Transpose::no, true},
          {"dgrad_up", D, 2 * F, Transpose::no, false}};
}

template <class KernelT>
void rows(benchmark::State& state, Shape const& s, Use const& use)
{
  Space<Cuda> const space(std::is_same_v<KernelT, Cublas> ? moe::Products::blas
                                                          : moe::Products::own);
  auto const& exec = space.exec();
  index_t const A = s.tokens * s.top_k, E = s.experts;
  bool const dense   = std::is_same_v<KernelT, Cublas>;
  auto const a       = uniform_tensor<T>(exec, use.gathered && !dense ? s.tokens : A, use.k, 1);
  auto const w       = uniform_tensor<T>(exec, (dense ? 1 : E) * use.n, use.k, 2);
  auto c             = uniform_tensor<T>(exec, A, use.n, 3);
  bool const k_major = use.tw == Transpose::yes;
  Routing const routing(s);
  auto const token = tensor_of(exec, routing.token), offsets = tensor_of(exec, routing.offsets);
  moe::RowGroups<Cuda> const groups{offsets.const_view(), {}, A, 0, static_cast<Id>(E)};
  moe::IndexedRows<T, Cuda> in{a.const_view(), {}};
  if (use.gathered) { in.index = token.const_view(); }

  double const seconds = median_seconds(exec, [&] {
    if constexpr (std::is_same_v<KernelT, Cublas>) {
      moe::View<T const, 2, Cuda> const one(
          w.view().data_handle(), k_major ? use.n : use.k, k_major ? use.k : use.n);
      moe::gemm(exec, Transpose::no, a.view(), use.tw, one, moe::Result::overwrite, c.view());
    } else {
      moe::View<T const, 3, Cuda> const all(
          w.view().data_handle(), E, k_major ? use.n : use.k, k_major ? use.k : use.n);
      moe::grouped_gemm_rows<KernelT>(
          exec, groups, in, use.tw, all, moe::View<T const, 2, Cuda>{}, c.view());
    }
  });
  for (auto _ : state) {
    state.SetIterationTime(seconds);
  }
  state.counters["FLOP/s"] =
      2. * static_cast<double>(A) * static_cast<double>(use.n * use.k) / seconds;
}

template <class KernelT>
void add(char const* kernel, Shape const& s, Use const& use)
{
  std::string const name = std::string("rows/") + s.name + "/" + use.name + "/" + kernel;
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) { rows<KernelT>(state, s, use); })
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

bool const added = [] {
  for (Shape const& shape : {mixtral.full(), qwen3.full()}) {
    for (Use const& use : uses(shape)) {
      add<Cublas>("cublas_dense", shape, use);
      add<moe::detail::UniformWarps>("uniform", shape, use);
      add<WarpSpecialised>("specialised", shape, use);
      add<Ahead<1>>("specialised_ahead_1", shape, use);
      add<Ahead<2>>("specialised_ahead_2", shape, use);
    }
  }
  return true;
}();

}  // namespace
}  // namespace moe_bench
#endif
