// Rows on their way: packing, encoding, decoding and the combine, each beside a copy of as many
// bytes within the space, since none can be quicker than its memory.
#include <algorithm>
#include <vector>

#include <moe/dispatch/wire_rows.hpp>

#include "main.hpp"
#include "routing_case.hpp"
#include "shapes.hpp"
#include "timer.hpp"

namespace moe_bench {
namespace {

struct Mixtral {
  static constexpr Shape shape = mixtral;
  using Router                 = moe::SoftmaxTopK<2, moe::renormalized>;
};
struct Qwen3 {
  static constexpr Shape shape = qwen3;
  using Router                 = moe::SoftmaxTopK<8, moe::renormalized>;
};

using moe::BFloat16;

// A plan of 8,192 tokens of the whole shape, on Host of its small one.
template <class ExecT, class ShapeT>
struct RowsCase {
  static constexpr index_t K = ShapeT::Router::top_k;
#if defined(__CUDACC__)
  static constexpr Shape shape    = ShapeT::shape.full();
  static constexpr index_t tokens = 8192;
#else
  static constexpr Shape shape    = ShapeT::shape.scaled();
  static constexpr index_t tokens = shape.tokens;
#endif
  static constexpr index_t D = shape.hidden, A = tokens * K;

  RowsCase()
      : batch{tokens, shape.experts},
        plan{batch.exec(), moe::SlotLayout::compact, shape.experts, A, A}
  {
    moe::make_plan(batch.exec(),
                   moe::SelfCommunicator{},
                   moe::Dropless{},
                   moe::RoutingShape{tokens, shape.experts, ShapeT::Router::top_k},
                   batch.routing,
                   moe::View<float const, 1, ExecT>{},
                   plan);
  }
  [[nodiscard]] ExecT const& exec() const { return batch.exec(); }
  [[nodiscard]] moe::Tensor<BFloat16, 2, ExecT> rows(index_t n, std::uint32_t seed) const
  {
    return uniform_tensor<BFloat16>(exec(), n, D, seed);
  }

  RoutingCase<ExecT, typename ShapeT::Router> batch;
  moe::RoutingPlan<ExecT> plan;
};

inline double median(std::vector<double> times)
{
  auto const middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

// `moved` bytes are read and written, all told; `of_copy` is the share of a copy's speed. Medians,
// the copy's from the same process just before.
template <class ExecT, class Work>
void measure_beside_copy(benchmark::State& state,
                         ExecT const& exec,
                         index_t moved,
                         Work const& work)
{
  auto const time = [&](auto const& what) {
    Timer<ExecT> const timer(exec);
    what();
    return timer.stop();
  };
  double copy = 0;
  {
    moe::Tensor<std::byte, 1, ExecT> from(exec, moved / 2), to(exec, moved / 2);
    exec.zero(from.view().data_handle(), from.bytes());
    auto const copy_once = [&] {
      exec.copy(to.view().data_handle(), from.view().data_handle(), from.bytes());
    };
    copy_once();
    std::vector<double> times(21);
    std::generate(times.begin(), times.end(), [&] { return time(copy_once); });
    copy = median(times);
  }
  work();
  std::vector<double> times;
  for (auto _ : state) {
    times.push_back(time(work));
    state.SetIterationTime(times.back());
  }
  state.counters["bytes/s"]      = static_cast<double>(moved) / median(times);
  state.counters["copy_bytes/s"] = static_cast<double>(moved) / copy;
  state.counters["of_copy"]      = copy / median(times);
}

// Each token's row to the slots of its K experts.
template <class ExecT, class ShapeT>
void pack(benchmark::State& state)
{
  using Case = RowsCase<ExecT, ShapeT>;
  Case const work;
  auto const x = work.rows(Case::tokens, 1);
  auto to      = work.rows(Case::A, 2);
  measure_beside_copy(state, work.exec(), 2 * Case::A * Case::D * index_t{sizeof(BFloat16)}, [&] {
    moe::gather_rows(
        work.exec(),
        moe::IndexedRows<BFloat16, ExecT>{x.const_view(), work.plan.token_at.const_view()},
        Case::A,
        to.view());
  });
}

template <class ExecT, class ShapeT, class WireT>
void encode(benchmark::State& state)
{
  using Case      = RowsCase<ExecT, ShapeT>;
  index_t const B = WireT::template row_bytes<BFloat16>(Case::D);
  Case const work;
  auto const x = work.rows(Case::tokens, 1);
  moe::Tensor<std::byte, 2, ExecT> to(work.exec(), Case::A, B);
  measure_beside_copy(state, work.exec(), Case::A * (Case::D * index_t{sizeof(BFloat16)} + B), [&] {
    moe::encode_rows(
        work.exec(),
        WireT{},
        moe::IndexedRows<BFloat16, ExecT>{x.const_view(), work.plan.token_at.const_view()},
        Case::A,
        to.view());
  });
}

template <class ExecT, class ShapeT, class WireT>
void decode(benchmark::State& state)
{
  using Case      = RowsCase<ExecT, ShapeT>;
  index_t const B = WireT::template row_bytes<BFloat16>(Case::D);
  Case const work;
  moe::Tensor<std::byte, 2, ExecT> bytes(work.exec(), Case::A, B);
  auto rows = work.rows(Case::A, 1);
  moe::encode_rows(work.exec(),
                   WireT{},
                   moe::IndexedRows<BFloat16, ExecT>{rows.const_view(), {}},
                   Case::A,
                   bytes.view());
  measure_beside_copy(state, work.exec(), Case::A * (Case::D * index_t{sizeof(BFloat16)} + B), [&] {
    moe::decode_rows(work.exec(), WireT{}, bytes.const_view(), rows.view());
  });
}

// Rows at their slots back to tokens.
template <class ExecT, class ShapeT>
void combine_rows(benchmark::State& state)
{
  using Case = RowsCase<ExecT, ShapeT>;
  Case const work;
  auto const rows = work.rows(Case::A, 1);
  auto y          = work.rows(Case::tokens, 2);
  measure_beside_copy(
      state, work.exec(), (Case::A + Case::tokens) * Case::D * index_t{sizeof(BFloat16)}, [&] {
        moe::combine(work.exec(),
                     work.batch.routing.assignments(),
                     work.plan,
                     work.batch.routing.weight.const_view(),
                     rows.const_view(),
                     {},
                     y.view());
      });
}

void manual(benchmark::internal::Benchmark* b)
{
  b->UseManualTime()->Unit(benchmark::kMicrosecond);
}

MOE_BENCHMARK(pack, Mixtral)->Apply(manual);
MOE_BENCHMARK(pack, Qwen3)->Apply(manual);
MOE_BENCHMARK(encode, Mixtral, moe::Float8Wire)->Apply(manual);
MOE_BENCHMARK(encode, Qwen3, moe::Float8Wire)->Apply(manual);
MOE_BENCHMARK(decode, Mixtral, moe::Float8Wire)->Apply(manual);
MOE_BENCHMARK(decode, Qwen3, moe::Float8Wire)->Apply(manual);
MOE_BENCHMARK(encode, Mixtral, moe::FloatWire)->Apply(manual);
MOE_BENCHMARK(decode, Mixtral, moe::FloatWire)->Apply(manual);
MOE_BENCHMARK(combine_rows, Mixtral)->Apply(manual);
MOE_BENCHMARK(combine_rows, Qwen3)->Apply(manual);

}  // namespace
}  // namespace moe_bench
