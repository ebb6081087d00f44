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

struct Cublas {};       // one dense product
struct Composition {};  // a product and the pass over its results
struct WarpSpecialised : moe::detail::HopperTuning {
  static constexpr moe::index_t pairs_to = 0;  // but where a row says pairs
};
using InPairs = moe::detail::InPairs<WarpSpecialised>;
template <int Steps>
struct Lead : WarpSpecialised {
  static constexpr int lead = Steps;
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

void report(benchmark::State& state, double seconds, double operations)
{
  for (auto _ : state) {
    state.SetIterationTime(seconds);
  }
  state.counters["FLOP/s"] = operations / seconds;
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
  report(state, seconds, 2. * static_cast<double>(A) * static_cast<double>(use.n * use.k));
}

// The up projection, gated: the product and the pass over its results, or both in one. In an infer
// pass the latter stores no pre-activations.
template <class KernelT, moe::Pass pass>
void up_activated(benchmark::State& state, Shape const& s)
{
  Space<Cuda> const space(moe::Products::own);
  auto const& exec = space.exec();
  index_t const A = s.tokens * s.top_k, E = s.experts, D = s.hidden, F = s.ffn;
  auto const x = uniform_tensor<T>(exec, s.tokens, D, 1);
  auto const w = uniform_tensor<T>(exec, E * 2 * F, D, 2);
  moe::Tensor<T, 2, Cuda> pre(exec, A, 2 * F), a(exec, A, F);
  Routing const routing(s);
  auto const token = tensor_of(exec, routing.token), offsets = tensor_of(exec, routing.offsets);
  moe::RowGroups<Cuda> const groups{offsets.const_view(), {}, A, 0, static_cast<Id>(E)};
  moe::View<T const, 3, Cuda> const w_in(w.view().data_handle(), E, 2 * F, D);
  moe::View<T const, 2, Cuda> const no_bias;
  moe::IndexedRows<T, Cuda> const rows{x.const_view(), token.const_view()};
  double const seconds = median_seconds(exec, [&] {
    if constexpr (std::is_same_v<KernelT, Composition>) {
      moe::grouped_gemm_rows(exec, groups, rows, Transpose::yes, w_in, no_bias, pre.view());
      moe::detail::activate(exec,
                            groups,
                            moe::detail::ActivateRow<moe::SwiGlu, T, Cuda>{
                                moe::SwiGlu{}, pre.const_view(), a.view()});
    } else {
      moe::detail::up_activated<KernelT>(
          exec, groups, rows, w_in, no_bias, moe::SwiGlu{}, pass, pre.view(), a.view());
    }
  });
  report(state, seconds, 4. * static_cast<double>(A) * static_cast<double>(F * D));
}

// The gradient of the down projection's rows, gated, and all that an FFN makes of it.
template <class KernelT>
void down_backward(benchmark::State& state, Shape const& s)
{
  Space<Cuda> const space(moe::Products::own);
  auto const& exec = space.exec();
  index_t const A = s.tokens * s.top_k, E = s.experts, D = s.hidden, F = s.ffn;
  auto const dy     = uniform_tensor<T>(exec, s.tokens, D, 1);
  auto const w      = uniform_tensor<T>(exec, E * D, F, 2);
  auto const pre    = uniform_tensor<T>(exec, A, 2 * F, 3);
  auto const weight = uniform_tensor<float>(exec, A, 1, 4);
  moe::Tensor<T, 2, Cuda> a(exec, A, F), d_pre(exec, A, 2 * F), dx(exec, A, D);
  moe::Tensor<float, 1, Cuda> d_weight(exec, A);
  Routing const routing(s);
  auto const token = tensor_of(exec, routing.token), offsets = tensor_of(exec, routing.offsets);
  moe::RowGroups<Cuda> const groups{offsets.const_view(), {}, A, 0, static_cast<Id>(E)};
  moe::View<T const, 3, Cuda> const w_out(w.view().data_handle(), E, D, F);
  moe::detail::ActivateBackwardRow<moe::SwiGlu, T, Cuda> const row{
      moe::SwiGlu{},
      pre.const_view(),
      moe::View<float const, 1, Cuda>(weight.const_view().data_handle(), A),
      moe::IndexedRows<T, Cuda>{dy.const_view(), token.const_view()},
      moe::View<T const, 2, Cuda>{},
      a.view(),
      d_pre.view(),
      d_weight.view()};
  double const seconds = median_seconds(exec, [&] {
    if constexpr (std::is_same_v<KernelT, Composition>) {
      moe::View<T const, 2, Cuda> const no_bias;
      moe::grouped_gemm_rows(exec, groups, row.dy, Transpose::no, w_out, no_bias, a.view());
      moe::detail::activate_backward(exec, groups, row);
    } else {
      moe::detail::down_backward<KernelT>(exec, groups, w_out, row, dx.view());
    }
  });
  report(state, seconds, 2. * static_cast<double>(A) * static_cast<double>(F * D));
}

template <class Run>
void add(std::string const& name, Run const& run)
{
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}
template <class KernelT>
void add(char const* kernel, Shape const& s, Use const& use)
{
  add(std::string("rows/") + s.name + "/" + use.name + "/" + kernel,
      [=](benchmark::State& state) { rows<KernelT>(state, s, use); });
}
template <class KernelT, moe::Pass pass = moe::Pass::forward>
void add_up_activated(char const* kernel, Shape const& s)
{
  add(std::string("rows/") + s.name + "/up_activated/" + kernel,
      [=](benchmark::State& state) { up_activated<KernelT, pass>(state, s); });
}

template <class KernelT>
void add_down_backward(char const* kernel, Shape const& s)
{
  add(std::string("rows/") + s.name + "/down_backward/" + kernel,
      [=](benchmark::State& state) { down_backward<KernelT>(state, s); });
}

bool const added = [] {
  for (Shape const& shape :
       {mixtral.full(), olmoe.full(), qwen3.full(), dsv3.full(), sonic7b.full()}) {
    for (Use const& use : uses(shape)) {
      add<Cublas>("cublas_dense", shape, use);
      add<moe::detail::UniformWarps>("uniform", shape, use);
      add<WarpSpecialised>("specialised", shape, use);
      add<Lead<0>>("specialised_lead_0", shape, use);
      add<Lead<2>>("specialised_lead_2", shape, use);
      add<InPairs>("specialised_pairs", shape, use);
    }
    add_up_activated<Composition>("composition", shape);
    add_up_activated<WarpSpecialised>("fused", shape);
    add_up_activated<Lead<0>>("fused_lead_0", shape);
    add_up_activated<Lead<2>>("fused_lead_2", shape);
    add_up_activated<InPairs>("fused_pairs", shape);
    add_up_activated<WarpSpecialised, moe::Pass::infer>("fused_infer", shape);
    add_down_backward<Composition>("composition", shape);
    add_down_backward<WarpSpecialised>("fused", shape);
    add_down_backward<Lead<0>>("fused_lead_0", shape);
    add_down_backward<Lead<2>>("fused_lead_2", shape);
    add_down_backward<InPairs>("fused_pairs", shape);
  }
  return true;
}();

}  // namespace
}  // namespace moe_bench
#endif
