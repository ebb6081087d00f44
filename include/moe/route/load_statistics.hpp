#pragma once
// What every forward tells about its routing: loads, drops, and what was wrong with the input.
#include <cmath>
#include <vector>

#include <moe/exec/execution_space.hpp>
#include <moe/plan/routing_plan.hpp>
#include <moe/route/routing.hpp>

namespace moe {

// On the host; all counts are of this batch, and of this rank where not said otherwise.
struct LoadStatistics {
  std::vector<Id> tokens_per_expert;  // (E) asked for, before drops; over all ranks
  std::vector<Id> kept_per_expert;    // (E)
  std::vector<Id> dropped;            // assignments t * K + k that found no slot, ascending
  index_t assigned          = 0;      // sum of tokens_per_expert
  index_t non_finite_tokens = 0;      // tokens with a NaN or infinite logit
  index_t invalid_ids       = 0;      // given ids that name no expert
  [[nodiscard]] double fraction(index_t e) const
  {
    return assigned == 0 ? 0
                         : static_cast<double>(tokens_per_expert[static_cast<std::size_t>(e)]) /
                               static_cast<double>(assigned);
  }
  [[nodiscard]] double dropped_fraction() const
  {
    double all = static_cast<double>(dropped.size());
    for (Id const kept : kept_per_expert) {
      all += kept;
    }
    return all == 0 ? 0 : static_cast<double>(dropped.size()) / all;
  }
  // Largest load over the mean: 1 when balanced, E when one expert has everything.
  [[nodiscard]] double max_over_mean() const
  {
    double largest = 0;
    for (std::size_t e = 0; e < tokens_per_expert.size(); ++e) {
      largest = std::fmax(largest, fraction(static_cast<index_t>(e)));
    }
    return largest * static_cast<double>(tokens_per_expert.size());
  }
  // Of the load's distribution, in nats: log E when balanced.
  [[nodiscard]] double entropy() const
  {
    double h = 0;
    for (std::size_t e = 0; e < tokens_per_expert.size(); ++e) {
      double const f = fraction(static_cast<index_t>(e));
      h -= f > 0 ? f * std::log(f) : 0;
    }
    return h;
  }
  [[nodiscard]] index_t idle_experts() const
  {
    index_t n = 0;
    for (Id const c : tokens_per_expert) {
      n += c == 0 ? 1 : 0;
    }
    return n;
  }
};

namespace detail {

template <class S, class ExecT>
struct FindBadInputRow {
  RoutingInput<S, ExecT> in;
  View<S const, 2, ExecT> logits;  // (T, N)
  View<Id, 1, ExecT> non_finite;   // (T) 0 or -1
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    Id bad = 0;
    for (index_t e = team.lane(); e < logits.extent(1); e += team.size()) {
      S const z = logits(t, e);
      bad += z - z == S{0} ? 0 : 1;
    }
    bad = team.sum(bad);
    if (team.lane() == 0) { non_finite(t) = bad > 0 && in.takes_part(t) ? 0 : -1; }
  }
};

template <class ExecT>
struct InvalidIdRow {
  View<Id const, 1, ExecT> expert;
  View<Id, 1, ExecT> key;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t a) const
  {
    if (team.lane() == 0) { key(a) = expert(a) < no_expert ? 0 : -1; }
  }
};

// Whether the space can count both in one pass, which it may leave undone (false).
template <class ExecT>
concept CountsBadInput = ExecT::counts_bad_input;

}  // namespace detail

// non_finite (1), invalid (1)
template <class ExecT, class S>
void count_bad_input(ExecT const& exec,
                     RoutingInput<S, ExecT> const& in,
                     std::type_identity_t<View<S const, 2, ExecT>> logits,
                     Routing<S, ExecT> const& routing,
                     View<Id, 1, ExecT> non_finite,
                     View<Id, 1, ExecT> invalid)
{
  if constexpr (detail::CountsBadInput<ExecT>) {
    if (count_bad_input_at_once(exec, in, logits, routing, non_finite, invalid)) { return; }
  }
  index_t const A = routing.expert.extent(0);
  Tensor<Id, 1, ExecT> of_token(exec, in.tokens), of_assignment(exec, A);
  exec.for_each_row(in.tokens, detail::FindBadInputRow<S, ExecT>{in, logits, of_token.view()});
  histogram(exec, of_token.const_view(), non_finite);
  exec.for_each_row(A,
                    detail::InvalidIdRow<ExecT>{routing.expert.const_view(), of_assignment.view()});
  histogram(exec, of_assignment.const_view(), invalid);
}

// Copies a batch's counts to the host, which waits for the device.
template <class ExecT>
LoadStatistics read_statistics(ExecT const& exec,
                               RoutingPlan<ExecT> const& plan,
                               View<Id const, 1, ExecT> non_finite,
                               View<Id const, 1, ExecT> invalid)
{
  auto const read = [&](View<Id const, 1, ExecT> from, index_t n) {
    std::vector<Id> to(static_cast<std::size_t>(n));
    exec.copy_to_host(to.data(), from.data_handle(), to.size() * sizeof(Id));
    return to;
  };
  LoadStatistics s;
  index_t const E     = plan.tokens_per_expert.extent(0);
  s.tokens_per_expert = read(plan.tokens_per_expert.const_view(), E);
  s.kept_per_expert   = read(plan.kept_per_expert.const_view(), E);
  s.dropped = read(plan.dropped_list.const_view(), read(plan.dropped_count.const_view(), 1)[0]);
  s.non_finite_tokens = read(non_finite, 1)[0];
  s.invalid_ids       = read(invalid, 1)[0];
  for (Id const c : s.tokens_per_expert) {
    s.assigned += c;
  }
  return s;
}

}  // namespace moe
