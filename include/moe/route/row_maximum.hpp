#pragma once
// The score that a token's claims are ranked by where a capacity policy asks for it.
#include <moe/route/routing.hpp>
#include <moe/route/row_math.hpp>

namespace moe::detail {

// row_max(t) = the largest softmax probability of the token's logits (V-MoE and Tutel rank by it);
// without logits, its largest given weight.
template <class S, class ExecT>
struct RowMaximumRow {
  View<S const, 2, ExecT> logits;  // (T, N), N >= E, or no columns
  index_t experts;
  TokenAssignments<ExecT> assignments;
  View<S const, 1, ExecT> weight;  // (A)
  View<float, 1, ExecT> row_max;   // (T)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    S best = 0;
    if (logits.extent(1) > 0) {
      best = S{1} / row_softmax(team, row(logits, t).first(experts)).sum;
    } else {
      for (index_t a = assignments.begin(t); a < assignments.end(t); ++a) {
        best = weight(a) > best ? weight(a) : best;
      }
    }
    if (team.lane() == 0) { row_max(t) = static_cast<float>(best); }
  }
};

}  // namespace moe::detail
