// Tokens to 1,024 experts and back, in two ways: the sparse plan, and GShard's (Lepikhin et al.
// 2020, algorithm 2), where one-hot tensors (T, E, C) are multiplied with x and with the experts'
// rows:
//   rows (E C, D) = dispatch (T, E C)^T . x (T, D)      y (T, D) = combine (T, E C) . rows (E C, D)
// Those products are dense ones, by the space's gemm; the einsums of both ways read and write all C
// slots of every expert. The sparse way makes its plan too; the dense one is given the slots, which
// GShard finds by a cumulative sum over one more (T, E) tensor. Without the experts, which are the
// same. Tokens are one group of GShard's.
#include <cmath>
#include <vector>

#include <moe/dispatch/travel_rows.hpp>

#include "main.hpp"
#include "routing_case.hpp"
#include "timer.hpp"

namespace moe_bench {
namespace {

#if defined(__CUDACC__)
using Element = moe::BFloat16;
#else
using Element = float;
#endif
using Capacity = moe::DropByPosition<>;

// A row of both one-hot tensors.
template <class ExecT>
struct OneHotRow {
  moe::View<moe::Id const, 1, ExecT> slot_of;  // (A)
  moe::View<float const, 1, ExecT> weight;     // (A)
  int top_k;
  moe::View<Element, 2, ExecT> dispatch, combine;  // (T, E C)

  template <moe::Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    for (index_t s = team.lane(); s < dispatch.extent(1); s += team.size()) {
      dispatch(t, s) = Element(0.f);
      combine(t, s)  = Element(0.f);
    }
    team.sync();
    for (index_t a = t * top_k + team.lane(); a < (t + 1) * top_k; a += team.size()) {
      if (slot_of(a) < 0) { continue; }
      dispatch(t, slot_of(a)) = Element(1.f);
      combine(t, slot_of(a))  = Element(weight(a));
    }
  }
};

template <class ExecT>
class EinsumCase {
 public:
  using RouterT = moe::SoftmaxTopK<2, moe::renormalized>;

  EinsumCase(index_t T, index_t E, index_t D)
      : batch_{T, E},
        shape_{T, E, RouterT::top_k},
        slots_{moe::slots_bound(Capacity{}, moe::SlotLayout::padded, shape_, T * RouterT::top_k)},
        plan_{exec(), moe::SlotLayout::padded, E, T * RouterT::top_k, slots_},
        row_max_(exec(), T),
        x_{uniform_tensor<Element>(exec(), T, D, 3)},
        rows_(exec(), slots_, D),
        y_(exec(), T, D)
  {
    exec().zero(row_max_.view().data_handle(), row_max_.bytes());
    exec().zero(plan_.token_at.view().data_handle(), plan_.token_at.bytes());  // of slots not used
    make_plan();
  }
  [[nodiscard]] ExecT const& exec() const { return batch_.exec(); }
  [[nodiscard]] index_t slots() const { return slots_; }

  void make_masks()
  {
    dispatch_ = moe::Tensor<Element, 2, ExecT>(exec(), x_.extent(0), slots_);
    combine_  = moe::Tensor<Element, 2, ExecT>(exec(), x_.extent(0), slots_);
  }
  void sparse()
  {
    make_plan();
    moe::gather_rows(exec(),
                     moe::IndexedRows<Element, ExecT>{x_.const_view(), plan_.token_at.const_view()},
                     slots_,
                     rows_.view());
    moe::combine(exec(),
                 batch_.routing.assignments(),
                 plan_,
                 batch_.routing.weight.const_view(),
                 rows_.const_view(),
                 {},
                 y_.view());
  }
  void dense()
  {
    constexpr auto no = moe::Transpose::no, yes = moe::Transpose::yes;
    exec().for_each_row(x_.extent(0),
                        OneHotRow<ExecT>{plan_.slot_of.const_view(),
                                         batch_.routing.weight.const_view(),
                                         RouterT::top_k,
                                         dispatch_.view(),
                                         combine_.view()});
    moe::gemm(exec(), yes, dispatch_.view(), no, x_.view(), moe::Result::overwrite, rows_.view());
    moe::gemm(exec(), no, combine_.view(), no, rows_.view(), moe::Result::overwrite, y_.view());
  }
  [[nodiscard]] std::vector<Element> result() const
  {
    std::vector<Element> y(static_cast<std::size_t>(y_.extent(0) * y_.extent(1)));
    exec().copy_to_host(y.data(), y_.const_view().data_handle(), y_.bytes());
    return y;
  }

 private:
  void make_plan()
  {
    moe::make_plan(exec(),
                   moe::SelfCommunicator{},
                   Capacity{},
                   shape_,
                   batch_.routing,
                   row_max_.const_view(),
                   plan_);
  }

  RoutingCase<ExecT, RouterT> batch_;
  moe::RoutingShape shape_;
  index_t slots_;  // E C
  moe::RoutingPlan<ExecT> plan_;
  moe::Tensor<float, 1, ExecT> row_max_;
  moe::Tensor<Element, 2, ExecT> x_, rows_, y_, dispatch_, combine_;
};

struct SparsePlan {
  static constexpr bool dense = false;
};
struct OneHotEinsum {
  static constexpr bool dense = true;
};

// The two ways differ by what rounding the weights does.
bool near(std::vector<Element> const& a, std::vector<Element> const& b)
{
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    double const x = static_cast<float>(a[i]), y = static_cast<float>(b[i]);
    error += (x - y) * (x - y);
    norm += y * y;
  }
  return norm > 0 && std::sqrt(error / norm) < 1e-2;
}

template <class ExecT, class WayT>
void dispatch_and_combine(benchmark::State& state)
{
  index_t const T = state.range(0), E = state.range(1), D = state.range(2);
  EinsumCase<ExecT> work(T, E, D);
  if constexpr (WayT::dense) {
    work.make_masks();
    work.sparse();
    auto const expected = work.result();
    work.dense();
    if (!near(work.result(), expected)) { return state.SkipWithError("the ways differ"); }
  }
  measure(state, work.exec(), [&] {
    if constexpr (WayT::dense) {
      work.dense();
    } else {
      work.sparse();
    }
  });
  auto const masks             = WayT::dense ? static_cast<std::size_t>(2 * T * work.slots()) : 0;
  state.counters["tokens/s"]   = per_second(static_cast<double>(T));
  state.counters["mask_bytes"] = bytes(masks * sizeof(Element));
}

void shapes(benchmark::internal::Benchmark* b)
{
#if defined(__CUDACC__)
  b->ArgsProduct({{1024, 4096, 8192}, {1024}, {1024}});
#else
  b->ArgsProduct({{256, 1024}, {1024}, {128}});
#endif
  b->ArgNames({"T", "E", "D"})->UseManualTime()->Unit(benchmark::kMicrosecond);
}

MOE_BENCHMARK(dispatch_and_combine, SparsePlan)->Apply(shapes);
MOE_BENCHMARK(dispatch_and_combine, OneHotEinsum)->Apply(shapes);

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv);
}
