#pragma once
// Routers that choose the K largest logits (ChoosesByLogits), four rows to a warp. The same bits as
// RouteRow's.
//
// A lane has its columns in registers, as 32 lanes would stride over them: columns c with
// c / 4 % 8 == lane. Of each of the 32 strides the largest: the K-th largest of those is a
// threshold that K columns reach and few others (a stride's second). These are the candidates; each
// has the rank of how many are better.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <moe/exec/cuda.cuh>
#include <moe/exec/cuda/vector.cuh>
#include <moe/route/cuda/route_registers.cuh>
#include <moe/route/route.hpp>

namespace moe::detail {

struct RouteTuning {
  int threads;
  int candidates;  // of a row, to be ranked at once; more are compared again for each choice
};
inline constexpr RouteTuning route_tuning{.threads = 128, .candidates = 32};

// A candidate as a number that is larger for a larger logit, and for a smaller column of a tie.
__device__ inline std::uint64_t candidate_of(float z, int column)
{
  int const bits    = __float_as_int(z + 0.f);  // the zeros are a tie
  auto const larger = static_cast<unsigned>(bits ^ (bits >> 31 | static_cast<int>(0x80000000u)));
  return std::uint64_t{larger} << 32 | ~static_cast<unsigned>(column);
}
__device__ inline int column_of(std::uint64_t candidate)
{
  return static_cast<int>(~static_cast<unsigned>(candidate));
}

template <int K>
struct RouteScratch {  // of a row; rows of a warp lie in different banks
  std::uint64_t candidate[route_tuning.candidates + 1];
  std::uint64_t best[K];
  float score[K + K % 2];
};

// best: the first K of n candidates, best first.
template <int K>
__device__ void rank_candidates(RouteScratch<K>& scratch, int lane, int n)
{
  for (int first = lane; first < n; first += 2 * route_lanes) {
    bool const second     = first + route_lanes < n;
    std::uint64_t const a = scratch.candidate[first];
    std::uint64_t const b = second ? scratch.candidate[first + route_lanes] : ~std::uint64_t{0};
    int before_a = 0, before_b = 0;
    for (int i = 0; i < n; ++i) {
      std::uint64_t const other = scratch.candidate[i];
      before_a += other > a ? 1 : 0;
      before_b += other > b ? 1 : 0;
    }
    if (before_a < K) { scratch.best[before_a] = a; }
    if (second && before_b < K) { scratch.best[before_b] = b; }
  }
}

// A lane's share of the columns, of which those that `mine` has are candidates.
struct RouteShare {
  Row<float const> logits;
  int lane;
  unsigned mine;  // bit 4 i + j from the left: column 32 i + 4 lane + j

  template <class F>
  __device__ void for_each(F const& f) const
  {
    for (unsigned rest = mine; rest != 0;) {
      int const e      = __clz(static_cast<int>(rest));
      int const column = e / 4 * 32 + 4 * lane + e % 4;
      rest ^= 0x80000000u >> e;
      f(candidate_of(finite_logit(logits[column]), column));
    }
  }
};

// The same where they are too many to be kept: a pass per choice. By all lanes of the row.
template <int K>
__device__ void choose_candidates(RouteScratch<K>& scratch, RouteShare const& share, unsigned lanes)
{
  std::uint64_t last = ~std::uint64_t{0};
#pragma unroll 1
  for (int k = 0; k < K; ++k) {
    std::uint64_t best = 0;
    share.for_each([&](std::uint64_t c) { best = c < last && c > best ? c : best; });
    for (int step = route_lanes / 2; step > 0; step /= 2) {
      std::uint64_t const other = __shfl_xor_sync(lanes, best, step);
      best                      = other > best ? other : best;
    }
    if (share.lane == 0) { scratch.best[k] = best; }
    last = best;
  }
}

template <int Chunks, class RouterT>
__global__ void __launch_bounds__(route_tuning.threads)
    route_by_logits_kernel(RouteRow<RouterT, float, Cuda> const of)
{
  constexpr int K = RouterT::top_k;
  __shared__ RouteScratch<K> scratch_of_row[route_tuning.threads / route_lanes];
  auto const thread = static_cast<int>(threadIdx.x);
  int const lane    = thread % route_lanes;
  auto& scratch     = scratch_of_row[thread / route_lanes];
  index_t const t   = (index_t{blockIdx.x} * route_tuning.threads + thread) / route_lanes;
  bool const there  = t < of.in.tokens;
  bool const goes   = there && of.in.takes_part(t);
  auto const logits = row(of.logits, there ? t : 0);

  RouteRegisters<Chunks> const here(logits, lane);
  auto const bounds = here.template bounds<K>();
  RowSoftmax<float> softmax{bounds.maximum, 0};
  if constexpr (RouterT::weighs_all) { softmax.sum = here.sum_of_exp(bounds.maximum); }

  RouteShare const share{logits, lane, here.candidates(bounds.threshold)};
  int const count = __popc(share.mine);
  int upto        = count;
#pragma unroll
  for (int step = 1; step < route_lanes; step *= 2) {
    int const others = __shfl_up_sync(~0u, upto, step, route_lanes);
    if (lane >= step) { upto += others; }
  }
  int const n     = __shfl_sync(~0u, upto, route_lanes - 1, route_lanes);
  bool const kept = n <= route_tuning.candidates;
  if (goes && kept) {
    int at = upto - count;
    share.for_each([&](std::uint64_t c) { scratch.candidate[at++] = c; });
  }
  __syncwarp();
  if (goes && kept) { rank_candidates(scratch, lane, n); }
  if (goes && !kept) {
    unsigned const lanes = ((1u << route_lanes) - 1) << (thread % 32 - lane);
    choose_candidates(scratch, share, lanes);
  }
  __syncwarp();
  if (goes) {
    auto const score_of = of.router.scores(softmax);
    for (int k = lane; k < K; k += route_lanes) {
      scratch.score[k] = score_of(logits[column_of(scratch.best[k])]);
    }
  }
  __syncwarp();
  if (goes) {
    Array<float, K> score;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      score[k] = scratch.score[k];
    }
    auto const weight_of = of.router.weights(score);
    for (int k = lane; k < K; k += route_lanes) {
      of.routing.expert(t * K + k) = column_of(scratch.best[k]);
      of.routing.weight(t * K + k) = weight_of(k, scratch.score[k]);
    }
  } else if (there) {
    for (int k = lane; k < K; k += route_lanes) {
      of.routing.expert(t * K + k) = no_expert;
      of.routing.weight(t * K + k) = 0;
    }
  }
}

// Whether this is for such rows; then it is done.
template <class RouterT>
[[nodiscard]] MOE_HIDDEN bool route_by_logits(Cuda const& exec,
                                              RouteRow<RouterT, float, Cuda> const& of)
{
  index_t const E = of.logits.extent(1);
  if (!of.router.chooses_by_logits() || E < RouterT::top_k || E > route_columns ||
      !rows_aligned_16(of.logits)) {
    return false;
  }
  if (of.in.tokens == 0) { return true; }
  index_t const rows = route_tuning.threads / route_lanes;
  launch(E > route_columns / 2 ? &route_by_logits_kernel<8, RouterT>
                               : &route_by_logits_kernel<4, RouterT>,
         "moe::route",
         dim3(static_cast<unsigned>((of.in.tokens + rows - 1) / rows)),
         dim3(route_tuning.threads),
         0,
         exec.stream(),
         of);
  return true;
}

}  // namespace moe::detail
