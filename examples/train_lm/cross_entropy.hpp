#pragma once
// The objective: how surprising the next byte was.
#include <cmath>

#include <moe/core/team.hpp>
#include <moe/core/view.hpp>

namespace train_lm {

using moe::Id;
using moe::index_t;
using moe::Row;
using moe::Team;
using moe::View;

// loss(t) = log sum_v exp z_v - z_target. Logits become their own gradient, in place:
//   d_z_v = scale (softmax(z)_v - [v == target])
template <class T, class ExecT>
struct CrossEntropyRow {
  View<T, 2, ExecT> logits;         // (T, V); afterwards d_logits
  View<Id const, 1, ExecT> target;  // (T)
  View<T, 1, ExecT> loss;           // (T)
  T scale;                          // of the gradient: 1 / tokens for the mean

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    auto const z = moe::row(logits, t);
    T largest    = z[0];
    for (Id v = team.lane(); v < z.size(); v += team.size()) {
      largest = z[v] > largest ? z[v] : largest;
    }
    largest          = team.max(largest);
    T const at_label = z[target(t)] - largest;
    team.sync();
    T sum = 0;
    for (Id v = team.lane(); v < z.size(); v += team.size()) {
      z[v] = std::exp(z[v] - largest);
      sum += z[v];
    }
    sum = team.sum(sum);
    for (Id v = team.lane(); v < z.size(); v += team.size()) {
      z[v] = scale * (z[v] / sum - (v == target(t) ? T{1} : T{0}));
    }
    if (team.lane() == 0) { loss(t) = std::log(sum) - at_label; }
  }
};

// `tokens_of_mean`: of the whole batch, of which these tokens may be a part.
template <class ExecT, class T>
void cross_entropy(ExecT const& exec,
                   View<T, 2, ExecT> logits,
                   View<Id const, 1, ExecT> target,
                   View<T, 1, ExecT> loss,
                   index_t tokens_of_mean)
{
  T const scale = T{1} / static_cast<T>(tokens_of_mean);
  exec.for_each_row(logits.extent(0), CrossEntropyRow<T, ExecT>{logits, target, loss, scale});
}

}  // namespace train_lm
