#pragma once
// The stage: loads, and the losses' values and gradients over all tokens.
#include <algorithm>

#include <moe/comm/communicator.hpp>
#include <moe/exec/execution_space.hpp>
#include <moe/exec/gemm.hpp>
#include <moe/route/loss.hpp>
#include <moe/route/routing.hpp>

namespace moe {

// What one loss is given beside the logits: how many assignments each expert got, per batch (B = 1)
// or per sequence, and how many tokens took part.
template <class S, class ExecT>
struct Load {
  Load() = default;
  Load(ExecT const& exec, index_t sequences, index_t experts)
      : assigned(exec, sequences, experts), tokens(exec, sequences), live_sequences(exec, 1)
  {
  }
  Tensor<S, 2, ExecT> assigned;        // (B, E)
  Tensor<S, 1, ExecT> tokens;          // (B)
  Tensor<S, 1, ExecT> live_sequences;  // (1) sequences with a token that takes part
};

namespace detail {

template <class ExecT>
struct LoadKeyRow {
  TokenAssignments<ExecT> assignments;
  View<std::uint8_t const, 1, ExecT> mask;
  View<Id const, 1, ExecT> expert;  // (A)
  index_t experts, length;          // E, tokens of a sequence
  bool first_only;
  View<Id, 1, ExecT> key;       // (A) sequence * E + expert, or -1
  View<Id, 1, ExecT> sequence;  // (T) or -1

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const from = assignments.begin(t), b = t / length;
    bool const out = mask.data_handle() != nullptr && mask(t) == 0;
    if (team.lane() == 0) { sequence(t) = out ? -1 : static_cast<Id>(b); }
    for (index_t a = from + team.lane(); a < assignments.end(t); a += team.size()) {
      bool const counts = expert(a) >= 0 && (!first_only || a == from);
      key(a)            = counts ? static_cast<Id>(b * experts + expert(a)) : -1;
    }
    if (t + 1 < assignments.tokens) { return; }
    for (index_t a = assignments.end(t) + team.lane(); a < assignments.count; a += team.size()) {
      key(a) = -1;
    }
  }
};

template <class S, class ExecT>
struct LoadFromCountsRow {
  View<Id const, 1, ExecT> count;        // (B * E)
  View<Id const, 1, ExecT> token_count;  // (B)
  View<S, 2, ExecT> assigned;            // (B, E)
  View<S, 1, ExecT> tokens;              // (B)
  View<S, 1, ExecT> live_sequences;      // (1)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t b) const
  {
    index_t const E = assigned.extent(1);
    for (index_t e = team.lane(); e < E; e += team.size()) {
      assigned(b, e) = static_cast<S>(count(b * E + e));
    }
    if (team.lane() == 0) { tokens(b) = static_cast<S>(token_count(b)); }
    if (b != 0) { return; }
    Id live = 0;
    for (index_t i = team.lane(); i < token_count.extent(0); i += team.size()) {
      live += token_count(i) > 0 ? 1 : 0;
    }
    live = team.sum(live);
    if (team.lane() == 0) { live_sequences(0) = static_cast<S>(live); }
  }
};

template <class LossT, class S, class ExecT>
struct LossRowOf {
  LossT loss;
  RoutingInput<S, ExecT> in;
  View<S const, 2, ExecT> logits;          // (T, N)
  View<S const, 2, ExecT> assigned;        // (B, E)
  View<S const, 1, ExecT> tokens;          // (B)
  View<S const, 1, ExecT> live_sequences;  // (1)
  index_t length;
  S top_k;

  [[nodiscard]] MOE_HOST_DEVICE LossRow<S> at(index_t t) const
  {
    index_t const b = t / length;
    return {
        row(logits, t).first(in.experts), row(assigned, b), tokens(b), live_sequences(0), top_k};
  }
};

template <class LossT, class S, class ExecT>
struct LossValueRow {
  LossRowOf<LossT, S, ExecT> rows;
  View<S, 2, ExecT> value;  // (T, 1)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    S const v = rows.in.takes_part(t) ? rows.loss.row_loss(team, rows.at(t)) : S{0};
    if (team.lane() == 0) { value(t, 0) = v; }
  }
};

template <class LossT, class S, class ExecT>
struct LossBackwardRow {
  LossRowOf<LossT, S, ExecT> rows;
  View<S, 2, ExecT> d_logits;  // (T, N)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    if (!rows.in.takes_part(t)) { return; }
    auto const scale = static_cast<S>(rows.in.context(t).step.loss_scale);
    rows.loss.row_loss_backward(team, rows.at(t), scale, row(d_logits, t).first(rows.in.experts));
  }
};

template <class LossT, class S, class ExecT>
LossRowOf<LossT, S, ExecT> loss_rows(LossT const& loss,
                                     RoutingInput<S, ExecT> const& in,
                                     View<S const, 2, ExecT> logits,
                                     Load<S, ExecT> const& load,
                                     double top_k)
{
  index_t const B = load.assigned.extent(0);
  return {loss,
          in,
          logits,
          load.assigned.const_view(),
          load.tokens.const_view(),
          load.live_sequences.const_view(),
          in.tokens > 0 ? in.tokens / B : 1,
          static_cast<S>(top_k)};
}

}  // namespace detail

// The load that a loss names, over the ranks of `comm` when it is the batch's; a sequence lies
// whole at one rank, but how many there are is counted over all.
template <class LossT, class ExecT, class CommT, class S>
void count_load(ExecT const& exec,
                CommT const& comm,
                RoutingInput<S, ExecT> const& in,
                Routing<S, ExecT> const& routing,
                Load<S, ExecT>& load)
{
  index_t const B = load.assigned.extent(0), E = load.assigned.extent(1);
  Tensor<Id, 1, ExecT> key(exec, routing.expert.extent(0)), sequence(exec, in.tokens);
  Tensor<Id, 1, ExecT> count(exec, B * E), token_count(exec, B);
  exec.for_each_row(in.tokens,
                    detail::LoadKeyRow<ExecT>{routing.assignments(),
                                              in.mask,
                                              routing.expert.const_view(),
                                              E,
                                              in.tokens > 0 ? in.tokens / B : 1,
                                              LossT::choices == LoadChoices::first,
                                              key.view(),
                                              sequence.view()});
  histogram(exec, key.const_view(), count.view());
  histogram(exec, sequence.const_view(), token_count.view());
  if constexpr (LossT::scope == LoadScope::batch) {
    comm.all_reduce_sum(exec, count.view());
    comm.all_reduce_sum(exec, token_count.view());
  }
  exec.for_each_row(B,
                    detail::LoadFromCountsRow<S, ExecT>{count.const_view(),
                                                        token_count.const_view(),
                                                        load.assigned.view(),
                                                        load.tokens.view(),
                                                        load.live_sequences.view()});
  if constexpr (LossT::scope == LoadScope::sequence) {
    comm.all_reduce_sum(exec, load.live_sequences.view());
  }
}

// value (1) = sum over tokens of the loss's row value
template <class LossT, class ExecT, class S>
void loss_value(ExecT const& exec,
                LossT const& loss,
                RoutingInput<S, ExecT> const& in,
                std::type_identity_t<View<S const, 2, ExecT>> logits,
                Load<S, ExecT> const& load,
                double top_k,
                View<S, 1, ExecT> value)
{
  Tensor<S, 2, ExecT> per_token(exec, in.tokens, 1);
  exec.for_each_row(in.tokens,
                    detail::LossValueRow<LossT, S, ExecT>{
                        detail::loss_rows(loss, in, logits, load, top_k), per_token.view()});
  sum_rows(exec, per_token.const_view(), Result::overwrite, value);
}

// values(b, column) = the same over the tokens of block b; values (blocks, losses)
template <class LossT, class ExecT, class S>
void loss_values_of_blocks(ExecT const& exec,
                           LossT const& loss,
                           RoutingInput<S, ExecT> const& in,
                           std::type_identity_t<View<S const, 2, ExecT>> logits,
                           Load<S, ExecT> const& load,
                           double top_k,
                           index_t block,
                           index_t column,
                           View<S, 2, ExecT> values)
{
  Tensor<S, 2, ExecT> per_token(exec, in.tokens, 1);
  exec.for_each_row(in.tokens,
                    detail::LossValueRow<LossT, S, ExecT>{
                        detail::loss_rows(loss, in, logits, load, top_k), per_token.view()});
  for (index_t b = 0; b < values.extent(0); ++b) {
    index_t const first = b * block, count = std::min(block, in.tokens - first);
    sum_rows(exec,
             View<S const, 2, ExecT>(per_token.const_view().data_handle() + first, count, 1),
             Result::overwrite,
             View<S, 1, ExecT>(values.data_handle() + b * values.extent(1) + column, 1));
  }
}

// d_logits (T, N) += loss scale times the gradient
template <class LossT, class ExecT, class S>
void loss_backward(ExecT const& exec,
                   LossT const& loss,
                   RoutingInput<S, ExecT> const& in,
                   std::type_identity_t<View<S const, 2, ExecT>> logits,
                   Load<S, ExecT> const& load,
                   double top_k,
                   View<S, 2, ExecT> d_logits)
{
  exec.for_each_row(in.tokens,
                    detail::LossBackwardRow<LossT, S, ExecT>{
                        detail::loss_rows(loss, in, logits, load, top_k), d_logits});
}

}  // namespace moe
