#pragma once
// Slots by a counting sort: whole numbers alone, so the plan is the stable sort's (fill_plan.hpp).
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cub/block/block_scan.cuh>

#include <moe/core/tensor.hpp>
#include <moe/exec/cuda.cuh>
#include <moe/exec/cuda/sort.cuh>
#include <moe/plan/fill_plan.hpp>

namespace moe::detail {

struct FillPlanTuning {
  int threads;
  int items;   // assignments of a thread
  int takers;  // at most, E + 2: counters of each warp lie in shared memory; above, a sort
};
inline constexpr FillPlanTuning fill_plan_tuning{.threads = 256, .items = 8, .takers = 1026};
inline constexpr int fill_plan_warps    = fill_plan_tuning.threads / 32;
inline constexpr index_t fill_plan_part = fill_plan_tuning.threads * fill_plan_tuning.items;

using PlanScan = cub::BlockScan<Id, fill_plan_tuning.threads>;

// The assignments that a warp works on lie side by side, 32 at a time. Past the end: no taker.
inline constexpr std::uint32_t no_taker = 0xffffffffu;

template <class TakenT>
struct PartOfPlan {
  index_t first;  // of this lane
  std::uint32_t taker[fill_plan_tuning.items];

  __device__ PartOfPlan(index_t assignments, TakenT const& taken)
  {
    constexpr int items = fill_plan_tuning.items;
    first = (index_t{blockIdx.x} * fill_plan_warps + threadIdx.x / 32) * (32 * items) +
            threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < items; ++i) {
      taker[i] = first + 32 * i < assignments ? taken(first + 32 * i) : no_taker;
    }
  }
};

// before(e, b) = how many assignments of part b taker e has
template <class TakenT>
__global__ void __launch_bounds__(fill_plan_tuning.threads)
    count_takers_kernel(index_t assignments, TakenT taken, View<Id, 2, Cuda> before)
{
  extern __shared__ Id plan_counters[];
  auto const takers = static_cast<int>(before.extent(0));
  for (int e = static_cast<int>(threadIdx.x); e < takers; e += fill_plan_tuning.threads) {
    plan_counters[e] = 0;
  }
  PartOfPlan<TakenT> const part(assignments, taken);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < fill_plan_tuning.items; ++i) {
    // One addition for all lanes of a taker, so that a crowded one costs no more.
    unsigned const alike = __match_any_sync(~0u, part.taker[i]);
    bool const speaks    = __ffs(static_cast<int>(alike)) - 1 == static_cast<int>(threadIdx.x % 32);
    if (speaks && part.taker[i] != no_taker) {
      atomicAdd(&plan_counters[part.taker[i]], __popc(alike));
    }
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < takers; e += fill_plan_tuning.threads) {
    before(e, blockIdx.x) = plan_counters[e];
  }
}

// A block per taker: counts of its parts become sums over the parts before, and total(e) all.
template <class Key>  // a template, so that every translation unit may have it
__global__ void __launch_bounds__(fill_plan_tuning.threads)
    sum_parts_kernel(View<Key, 2, Cuda> before, View<Key, 1, Cuda> total)
{
  __shared__ typename PlanScan::TempStorage scan;
  index_t const e = blockIdx.x, parts = before.extent(1);
  Key sum = 0;
  for (index_t from = 0; from < parts; from += fill_plan_tuning.threads) {
    index_t const b = from + threadIdx.x;
    Key here = b < parts ? before(e, b) : 0, earlier = 0, all = 0;
    PlanScan(scan).ExclusiveSum(here, earlier, all);
    if (b < parts) { before(e, b) = sum + earlier; }
    sum += all;
    __syncthreads();
  }
  if (threadIdx.x == 0) { total(e) = sum; }
}

// Every assignment to its place: after those of its taker in earlier parts, in earlier warps, and
// in this warp. `before` is empty where there is one part.
template <class TakenT>
__global__ void __launch_bounds__(fill_plan_tuning.threads)
    fill_plan_kernel(SlotsToFill<Cuda> to,
                     TakenT taken,
                     View<Id const, 2, Cuda> before,
                     View<Id const, 1, Cuda> total)
{
  constexpr int threads = fill_plan_tuning.threads, warps = fill_plan_warps;
  extern __shared__ Id plan_counters[];
  __shared__ typename PlanScan::TempStorage scan;
  auto const takers = static_cast<int>(to.takers());
  auto const thread = static_cast<int>(threadIdx.x);
  bool const alone  = before.data_handle() == nullptr;
  Id* const of_warp = plan_counters + thread / 32 * takers;  // (takers) of each warp
  Id* const of_part = plan_counters + warps * takers;        // (takers) where its own begin

  PartOfPlan<TakenT> const part(to.assignments.count, taken);
  for (int i = thread; i < warps * takers; i += threads) {
    plan_counters[i] = 0;
  }
  __syncthreads();
  Id place[fill_plan_tuning.items];  // within the warp
#pragma unroll
  for (int i = 0; i < fill_plan_tuning.items; ++i) {
    bool const there     = part.taker[i] != no_taker;
    unsigned const alike = __match_any_sync(~0u, part.taker[i]);
    int const ahead      = __popc(alike & ((1u << (thread % 32)) - 1));
    Id const seen        = there ? of_warp[part.taker[i]] : 0;
    __syncwarp();
    if (there && ahead == 0) { of_warp[part.taker[i]] = seen + __popc(alike); }
    __syncwarp();
    place[i] = seen + ahead;
  }
  __syncthreads();

  // Counts of warps become sums over the warps before; all counts tell where takers begin.
  Id from = 0;
  for (int first = 0; first < takers; first += threads) {
    int const e = first + thread;
    Id here = 0, earlier = 0, all = 0;
    if (e < takers) {
      for (int w = 0; w < warps; ++w) {
        Id const n                    = plan_counters[w * takers + e];
        plan_counters[w * takers + e] = here;
        here += n;
      }
      if (!alone) { here = total(e); }
    }
    PlanScan(scan).ExclusiveSum(here, earlier, all);
    if (e < takers) {
      if (blockIdx.x == 0) { to.tell(e, from + earlier, here); }
      Id const begin = e < to.experts ? static_cast<Id>(to.begin(e, from + earlier)) : 0;
      of_part[e]     = begin + (alone ? 0 : before(e, blockIdx.x));
    }
    from += all;
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < fill_plan_tuning.items; ++i) {
    auto const e = part.taker[i];
    if (e == no_taker) { continue; }
    to.put(e, 0, of_part[e] + of_warp[e] + place[i], static_cast<Id>(part.first + 32 * i));
  }
}

template <class TakenT>
MOE_HIDDEN void fill_plan(Cuda const& exec, SlotsToFill<Cuda> const& to, TakenT const& taken)
{
  auto const& tuning   = fill_plan_tuning;
  index_t const takers = to.takers();
  if (takers > tuning.takers) { return fill_plan_by_sort(exec, to, taken); }
  index_t const parts = (to.assignments.count + fill_plan_part - 1) / fill_plan_part;
  auto const counters = static_cast<std::size_t>(takers) * sizeof(Id);
  auto const blocks   = static_cast<unsigned>(parts > 1 ? parts : 1);  // they are told of no rows
  Tensor<Id, 2, Cuda> before(exec, takers, parts > 1 ? parts : 0);
  Tensor<Id, 1, Cuda> total(exec, parts > 1 ? takers : 0);
  if (parts > 1) {
    launch(&count_takers_kernel<TakenT>,
           "moe::make_plan",
           dim3(blocks),
           dim3(tuning.threads),
           counters,
           exec.stream(),
           to.assignments.count,
           taken,
           before.view());
    launch(&sum_parts_kernel<Id>,
           "moe::make_plan",
           dim3(static_cast<unsigned>(takers)),
           dim3(tuning.threads),
           0,
           exec.stream(),
           before.view(),
           total.view());
  }
  launch(&fill_plan_kernel<TakenT>,
         "moe::make_plan",
         dim3(blocks),
         dim3(tuning.threads),
         counters * (fill_plan_warps + 1),
         exec.stream(),
         to,
         taken,
         before.const_view(),
         total.const_view());
}

}  // namespace moe::detail
