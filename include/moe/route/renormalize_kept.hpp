#pragma once
// Weights renormalised over what a token kept, after drops (DeepSpeed's top-2), instead of before.
#include <moe/plan/routing_plan.hpp>

namespace moe {

// A router whose weights w become w / (sum of the kept w): a token that lost one choice gives its
// whole weight to the others. Give it an unnormalised router; what it scales with is lost.
template <class RouterT>
struct RenormalizeKept : RouterT {
  static_assert(
      !requires { requires RouterT::top_k == 1; },
      "moe::RenormalizeKept: with top_k = 1 every kept weight is 1, so the router gets no "
      "gradient");
  static constexpr bool renormalize_kept = true;
};
template <class RouterT>
RenormalizeKept(RouterT) -> RenormalizeKept<RouterT>;

template <class R>
concept RenormalizesKept = R::renormalize_kept;

namespace detail {

template <class S, class ExecT>
MOE_HOST_DEVICE S kept_sum(TokenAssignments<ExecT> const& assignments,
                           View<Id const, 1, ExecT> slot_of,
                           View<S const, 1, ExecT> w,
                           index_t t)
{
  S sum = 0;
  for (index_t a = assignments.begin(t); a < assignments.end(t); ++a) {
    sum += slot_of(a) < 0 ? S{0} : w(a);
  }
  return sum;
}

template <class S, class ExecT>
struct RenormalizeKeptRow {
  TokenAssignments<ExecT> assignments;
  View<Id const, 1, ExecT> slot_of;  // (A)
  View<S const, 1, ExecT> weight;    // (A) the router's
  View<S, 1, ExecT> kept;            // (A)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    S const sum = kept_sum(assignments, slot_of, weight, t);
    for (index_t a = assignments.begin(t) + team.lane(); a < assignments.end(t); a += team.size()) {
      kept(a) = slot_of(a) < 0 || sum == S{0} ? S{0} : weight(a) / sum;
    }
  }
};

// v = w / s: d_w_a = (d_v_a - sum_j d_v_j v_j) / s for the kept ones, in place
template <class S, class ExecT>
struct RenormalizeKeptBackwardRow {
  TokenAssignments<ExecT> assignments;
  View<Id const, 1, ExecT> slot_of;
  View<S const, 1, ExecT> weight;
  View<S const, 1, ExecT> kept;
  View<S, 1, ExecT> d_weight;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    S const sum = kept_sum(assignments, slot_of, weight, t);
    S dot       = 0;
    for (index_t a = assignments.begin(t); a < assignments.end(t); ++a) {
      dot += slot_of(a) < 0 ? S{0} : d_weight(a) * kept(a);
    }
    team.sync();
    for (index_t a = assignments.begin(t) + team.lane(); a < assignments.end(t); a += team.size()) {
      d_weight(a) = slot_of(a) < 0 || sum == S{0} ? S{0} : (d_weight(a) - dot) / sum;
    }
  }
};

}  // namespace detail
}  // namespace moe
