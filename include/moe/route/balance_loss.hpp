#pragma once
// Losses on the routing: load balancing in its published normalisations, and the router z-loss.
#include <cmath>
#include <string>

#include <moe/core/error.hpp>
#include <moe/route/loss.hpp>
#include <moe/route/scores.hpp>

namespace moe {

// What sum_e (load_e / tokens) mean_t(q_te) is multiplied with. The same coefficient means another
// strength in each, so it is named in the type.

// The loss is coeff when loads are equal, whatever K: Switch, Megatron-LM, MegaBlocks, Tutel,
// DeepSpeed, MiniMind-V2.
struct unit_at_balance {
  template <RoutingScalar S>
  MOE_HOST_DEVICE static S factor(Id experts, S top_k, LoadChoices choices)
  {
    return choices == LoadChoices::all ? S(experts) / top_k : S(experts);
  }
};
// K times coeff when loads are equal: Hugging Face's Mixtral, flaxformer, newer MiniMind.
struct top_k_at_balance {
  template <RoutingScalar S>
  MOE_HOST_DEVICE static S factor(Id experts, S, LoadChoices)
  {
    return S(experts);
  }
};
// The mean over experts, as GShard's paper prints it (Lepikhin et al. 2020, algorithm 1): with
// first choices coeff / E^2 when loads are equal.
struct gshard_mean {
  template <RoutingScalar S>
  MOE_HOST_DEVICE static S factor(Id experts, S, LoadChoices)
  {
    return S{1} / S(experts);
  }
};

// coeff factor sum_e (load_e / tokens) mean_t(q_te), over the batch, or the mean of the sequences'
// own (Fedus et al. 2021, eq. 4-6; Shazeer et al. 2017; DeepSeek-V3, eq. 17-20). q is the softmax,
// or another score divided by its sum over all experts.
template <class NormalizationT = unit_at_balance,
          LoadChoices ChoicesV = LoadChoices::all,
          LoadScope ScopeV     = LoadScope::batch,
          class ScoreT         = softmax_score>
struct LoadBalancingLoss {
  using kind                           = loss_kind;
  static constexpr LoadScope scope     = ScopeV;
  static constexpr LoadChoices choices = ChoicesV;

  double coeff = 1e-2;

  // factor' sum_e load_e q_e, factor' = coeff factor / (tokens^2 sequences)
  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE S row_loss(G team, LossRow<S> const& in) const
  {
    if (!(in.tokens > 0)) { return 0; }
    return factor(in) * mean_load(team, in, ScoreT::of(team, in.logits)).load;
  }

  // d_z_j = factor' q_j (load_j - sum_e load_e q_e) log_slope_j
  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE void row_loss_backward(G team,
                                         LossRow<S> const& in,
                                         S d_loss,
                                         Row<S> d_logits) const
  {
    if (!(in.tokens > 0)) { return; }
    auto const score_of = ScoreT::of(team, in.logits);
    auto const mean     = mean_load(team, in, score_of);
    if (!(mean.total > 0)) { return; }
    S const scaled = d_loss * factor(in);
    for (Id e = team.lane(); e < in.logits.size(); e += team.size()) {
      S const z = in.logits[e];
      if (is_finite(z)) {
        d_logits[e] += scaled * (score_of(z) / mean.total) * (in.load[e] / in.tokens - mean.load) *
                       score_of.log_slope(z);
      }
    }
  }

  void check(Check const& check) const
  {
    check.that(std::isfinite(coeff) && coeff >= 0, "coeff", coeff, "finite and at least 0");
  }

 private:
  template <RoutingScalar S>
  struct MeanLoad {
    S load;   // sum_e (load_e / tokens) q_e
    S total;  // sum of the row's scores
  };
  template <Team G, RoutingScalar S, class ScoreOf>
  MOE_HOST_DEVICE static MeanLoad<S> mean_load(G team,
                                               LossRow<S> const& in,
                                               ScoreOf const& score_of)
  {
    S sum = 0, total = 0;
    for (Id e = team.lane(); e < in.logits.size(); e += team.size()) {
      S const s = score_of(in.logits[e]);
      sum += in.load[e] / in.tokens * s;
      total += s;
    }
    sum   = team.sum(sum);
    total = ScoreT::sums_to_one ? S{1} : team.sum(total);
    return {total > 0 ? sum / total : S{0}, total};
  }
  template <RoutingScalar S>
  [[nodiscard]] MOE_HOST_DEVICE S factor(LossRow<S> const& in) const
  {
    S const sequences = in.sequences > 0 ? in.sequences : S{1};
    return static_cast<S>(coeff) *
           NormalizationT::template factor<S>(in.logits.size(), in.top_k, ChoicesV) /
           (in.tokens * sequences);
  }
};

// Every choice counts, 1 at balance: Switch (K = 1), Megatron-LM, MegaBlocks.
using SwitchLoss = LoadBalancingLoss<>;
// Only first choices count, 1 at balance: GShard as Tutel and DeepSpeed compute it.
using GShardLoss = LoadBalancingLoss<unit_at_balance, LoadChoices::first>;
// GShard as its paper prints it.
using GShardPaperLoss = LoadBalancingLoss<gshard_mean, LoadChoices::first>;
// Hugging Face's Mixtral, Qwen and OLMoE, for one layer: K at balance.
using MixtralLoss = LoadBalancingLoss<top_k_at_balance>;
// MiniMind-V2 with seq_aux off: sum_e P_e f_e, f_e = E count_e / (T K); and with seq_aux on: the
// mean over sequences of the same taken within each.
using MiniMindBatchLoss = LoadBalancingLoss<>;
using MiniMindSequenceLoss =
    LoadBalancingLoss<unit_at_balance, LoadChoices::all, LoadScope::sequence>;
// DeepSeek-V3's complementary loss (eq. 17-20; its coeff is 1e-4): per sequence, sigmoid scores.
using DeepSeekSequenceLoss =
    LoadBalancingLoss<unit_at_balance, LoadChoices::all, LoadScope::sequence, sigmoid_score>;

static_assert(BalanceLoss<SwitchLoss>);
static_assert(BalanceLoss<GShardLoss>);
static_assert(BalanceLoss<DeepSeekSequenceLoss>);

// coeff mean_t(log(sum_e exp z_te)^2) (ST-MoE, Zoph et al. 2022, eq. 5). A row with an infinite
// maximum, or without a finite logit, counts 0.
struct RouterZLoss {
  using kind                           = loss_kind;
  static constexpr LoadScope scope     = LoadScope::batch;
  static constexpr LoadChoices choices = LoadChoices::all;

  double coeff = 1e-3;

  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE S row_loss(G team, LossRow<S> const& in) const
  {
    auto const softmax = row_softmax(team, in.logits);
    if (!counts(in, softmax)) { return 0; }
    S const lse = softmax.log_sum_exp();
    return static_cast<S>(coeff) * lse * lse / in.tokens;
  }

  // d_z_j = 2 coeff lse p_j / tokens
  template <Team G, RoutingScalar S>
  MOE_HOST_DEVICE void row_loss_backward(G team,
                                         LossRow<S> const& in,
                                         S d_loss,
                                         Row<S> d_logits) const
  {
    auto const softmax = row_softmax(team, in.logits);
    if (!counts(in, softmax)) { return; }
    S const scaled = d_loss * S{2} * static_cast<S>(coeff) * softmax.log_sum_exp() / in.tokens;
    for (Id e = team.lane(); e < in.logits.size(); e += team.size()) {
      if (is_finite(in.logits[e])) { d_logits[e] += scaled * softmax(in.logits[e]); }
    }
  }

  void check(Check const& check) const
  {
    check.that(std::isfinite(coeff) && coeff >= 0, "coeff", coeff, "finite and at least 0");
  }

 private:
  template <RoutingScalar S>
  MOE_HOST_DEVICE static bool counts(LossRow<S> const& in, RowSoftmax<S> const& softmax)
  {
    return in.tokens > 0 && softmax.maximum > -largest_finite<S> &&
           softmax.maximum < largest_finite<S>;
  }
};
static_assert(BalanceLoss<RouterZLoss>);

}  // namespace moe
