// Rows on their way: packing, encoding, decoding, one-sided stores and the combine, each beside a
// copy of as many bytes within the space.
#include <moe/dispatch/wire_rows.hpp>

#include "beside_copy.hpp"
#include "main.hpp"
#include "one_sided_case.hpp"
#include "routing_case.hpp"
#include "shapes.hpp"

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

// As rank 0 of a world whose windows are all in this space's memory.
template <int P>
struct Ranks {
  static constexpr int count = P;
};
template <class Case, class ExecT>
OneSidedCase<ExecT, BFloat16> one_sided_case(Case const& work, int ranks)
{
  return {work.exec(),
          ranks,
          work.batch.routing.assignments(),
          work.plan,
          work.batch.routing.weight.const_view(),
          Case::D};
}

// Each token's row into the window of every rank that has an expert for it.
template <class ExecT, class ShapeT, class RanksT>
void one_sided_to_experts(benchmark::State& state)
{
  using Case = RowsCase<ExecT, ShapeT>;
  Case const work;
  auto const windows = one_sided_case<Case, ExecT>(work, RanksT::count);
  auto const x       = work.rows(Case::tokens, 1);
  measure_beside_copy(
      state,
      work.exec(),
      (Case::tokens + windows.rows_to_experts()) * Case::D * index_t{sizeof(BFloat16)},
      [&] { windows.store_to_experts(x.const_view()); });
}

// The rows of rank 0's experts into the windows of their tokens' ranks.
template <class ExecT, class ShapeT, class RanksT>
void one_sided_home(benchmark::State& state)
{
  using Case = RowsCase<ExecT, ShapeT>;
  Case const work;
  auto const windows = one_sided_case<Case, ExecT>(work, RanksT::count);
  index_t const R    = windows.rows_home();
  auto const rows    = work.rows(R, 1);
  measure_beside_copy(state, work.exec(), 2 * R * Case::D * index_t{sizeof(BFloat16)}, [&] {
    windows.store_home(rows.const_view());
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
MOE_BENCHMARK(one_sided_to_experts, Mixtral, Ranks<1>)->Apply(manual);
MOE_BENCHMARK(one_sided_to_experts, Mixtral, Ranks<4>)->Apply(manual);
MOE_BENCHMARK(one_sided_to_experts, Qwen3, Ranks<1>)->Apply(manual);
MOE_BENCHMARK(one_sided_to_experts, Qwen3, Ranks<4>)->Apply(manual);
MOE_BENCHMARK(one_sided_home, Mixtral, Ranks<1>)->Apply(manual);
MOE_BENCHMARK(one_sided_home, Mixtral, Ranks<4>)->Apply(manual);
MOE_BENCHMARK(one_sided_home, Qwen3, Ranks<1>)->Apply(manual);
MOE_BENCHMARK(one_sided_home, Qwen3, Ranks<4>)->Apply(manual);
MOE_BENCHMARK(combine_rows, Mixtral)->Apply(manual);
MOE_BENCHMARK(combine_rows, Qwen3)->Apply(manual);

}  // namespace
}  // namespace moe_bench
