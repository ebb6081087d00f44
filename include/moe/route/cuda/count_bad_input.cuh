#pragma once
// What was wrong with the input (load_statistics.hpp), in one pass over logits and ids.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda.cuh>
#include <moe/route/load_statistics.hpp>

namespace moe {
namespace detail {

// Additions of whole numbers, whose order does not show; hardly any where input is sound.
template <class S>
struct CountBadInputRow {
  RoutingInput<S, Cuda> in;
  View<S const, 2, Cuda> logits;  // (T, N)
  TokenAssignments<Cuda> assignments;
  View<Id const, 1, Cuda> expert;         // (A)
  View<Id, 1, Cuda> non_finite, invalid;  // (1)

  template <Team G>
  __device__ void operator()(G team, index_t t) const
  {
    bool odd = false;
    for (index_t e = team.lane(); e < logits.extent(1); e += team.size()) {
      odd = !is_finite(logits(t, e)) || odd;  // in this order no load waits for another
    }
    if (team.max(odd ? 1 : 0) > 0 && team.lane() == 0 && in.takes_part(t)) {
      atomicAdd(&non_finite(0), 1);
    }
    // Those after the last token's are of no token.
    index_t const end = t + 1 < in.tokens ? assignments.end(t) : assignments.count;
    Id wrong          = 0;
    for (index_t a = assignments.begin(t) + team.lane(); a < end; a += team.size()) {
      wrong += expert(a) < no_expert ? 1 : 0;
    }
    wrong = team.sum(wrong);
    if (wrong > 0 && team.lane() == 0) { atomicAdd(&invalid(0), wrong); }
  }
};

}  // namespace detail

template <class S>
[[nodiscard]] MOE_HIDDEN bool count_bad_input_at_once(Cuda const& exec,
                                                      RoutingInput<S, Cuda> const& in,
                                                      View<S const, 2, Cuda> logits,
                                                      Routing<S, Cuda> const& routing,
                                                      View<Id, 1, Cuda> non_finite,
                                                      View<Id, 1, Cuda> invalid)
{
  exec.zero(non_finite.data_handle(), sizeof(Id));
  exec.zero(invalid.data_handle(), sizeof(Id));
  exec.for_each_row(
      in.tokens,
      detail::CountBadInputRow<S>{
          in, logits, routing.assignments(), routing.expert.const_view(), non_finite, invalid});
  return true;
}

}  // namespace moe
