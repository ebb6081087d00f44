#pragma once
// Which claims are served where the ranks' tokens compete for one expert's C slots: those that one
// process with all tokens, rank after rank, would serve. Every rank looks for the key of the last
// claim that is served, digit by digit (radix select); only counts travel, (E, 256) for each of
// ceil(claim_bits / 8) digits and one of ties. Where experts share slots, read group for expert.
#include <limits>

#include <moe/comm/communicator.hpp>
#include <moe/core/search.hpp>
#include <moe/core/tensor.hpp>
#include <moe/exec/execution_space.hpp>
#include <moe/plan/slot_groups.hpp>

namespace moe::detail {

inline constexpr int claim_digit_bits     = 8;
inline constexpr index_t claim_digits_all = index_t{1} << claim_digit_bits;

// The ends of the claims of expert e with keys in [from, to), among all sorted claims.
template <int Bits, class ExecT>
struct ClaimsOfExpert {
  View<std::uint64_t const, 1, ExecT> claim;  // (A) sorted: expert << Bits | key

  static constexpr std::uint64_t keys = std::uint64_t{1} << Bits;

  [[nodiscard]] MOE_HOST_DEVICE index_t before(index_t e, std::uint64_t key) const
  {
    auto const base = static_cast<std::uint64_t>(e) << Bits;
    return lower_bound(claim, base + (key < keys ? key : keys));
  }
};

// The key of the first claim that is not served, as far as its digits are known, and how many of
// its like are still served; `all` where nobody is refused.
template <class ExecT>
struct ClaimThreshold {
  View<std::uint64_t, 1, ExecT> key;  // (E)
  View<Id, 1, ExecT> left;            // (E) slots for claims with the digits of `key`, or `all`
  static constexpr Id all = -1;
};

// count(e, v) = claims that have the threshold's digits so far and v as the next
template <int Bits, class ExecT>
struct CountDigitsRow {
  ClaimsOfExpert<Bits, ExecT> claims;
  ClaimThreshold<ExecT> threshold;
  int shift;
  View<Id, 1, ExecT> count;  // (E * 256)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t e) const
  {
    for (index_t v = team.lane(); v < claim_digits_all; v += team.size()) {
      auto const from = threshold.key(e) + (static_cast<std::uint64_t>(v) << shift);
      auto const to   = from + (std::uint64_t{1} << shift);
      count(e * claim_digits_all + v) =
          static_cast<Id>(claims.before(e, to) - claims.before(e, from));
    }
  }
};

template <class ExecT>
struct ChooseDigitRow {
  View<Id const, 1, ExecT> count;  // (E * 256) over all ranks
  int shift;
  ClaimThreshold<ExecT> threshold;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t e) const
  {
    if (team.lane() != 0 || threshold.left(e) == ClaimThreshold<ExecT>::all) { return; }
    for (index_t v = 0; v < claim_digits_all; ++v) {
      Id const n = count(e * claim_digits_all + v);
      if (n > threshold.left(e)) {
        threshold.key(e) += static_cast<std::uint64_t>(v) << shift;
        return;
      }
      threshold.left(e) -= n;
    }
    threshold.left(e) = ClaimThreshold<ExecT>::all;
  }
};

template <class ExecT>
struct StartThresholdRow {
  Id slots;  // C
  ClaimThreshold<ExecT> threshold;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t e) const
  {
    if (team.lane() != 0) { return; }
    threshold.key(e)  = 0;
    threshold.left(e) = slots;
  }
};

// ties(rank, e) = claims of this rank with the threshold's key; other ranks' parts are 0
template <int Bits, class ExecT>
struct CountTiesRow {
  ClaimsOfExpert<Bits, ExecT> claims;
  ClaimThreshold<ExecT> threshold;
  index_t experts, rank;
  View<Id, 1, ExecT> ties;  // (P * E)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    if (team.lane() != 0) { return; }
    index_t const e = i % experts;
    auto const key  = threshold.key(e);
    ties(i)         = i / experts != rank
                          ? 0
                          : static_cast<Id>(claims.before(e, key + 1) - claims.before(e, key));
  }
};

// Served are the keys before the threshold's, and of that key the first `left` over the ranks.
template <int Bits, class ExecT, class GroupsT>
struct ServeOverRanksRow {
  ClaimsOfExpert<Bits, ExecT> claims;
  ClaimThreshold<ExecT> threshold;
  View<Id const, 1, ExecT> ties;  // (P * E)
  GroupsT groups;
  index_t rank;
  View<Id const, 1, ExecT> assignment;      // (A) sorted as the claims
  View<Id const, 1, ExecT> expert;          // (A)
  View<std::uint32_t, 1, ExecT> served_by;  // (A) by assignment: expert, E dropped, E + 1 nowhere

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t e) const
  {
    index_t const last = groups.count;
    index_t const from = claims.before(e, 0);
    index_t const to   = e == last ? claims.claim.extent(0) : claims.before(e + 1, 0);
    index_t served     = from;
    if (e < last && threshold.left(e) == ClaimThreshold<ExecT>::all) {
      served = to;
    } else if (e < last) {
      index_t left = threshold.left(e);
      for (index_t r = 0; r < rank; ++r) {
        left -= ties(r * last + e);
      }
      index_t const own = ties(rank * last + e);
      served            = claims.before(e, threshold.key(e));
      served += left < 0 ? 0 : left < own ? left : own;
    }
    index_t const refused = groups.experts + (e == last ? 1 : 0);
    for (index_t i = from + team.lane(); i < to; i += team.size()) {
      Id const a   = assignment(i);
      served_by(a) = static_cast<std::uint32_t>(i < served ? groups.taker(e, expert, a) : refused);
    }
  }
};

// served_by (A) of the claims of this rank, where every group has `slots` = C for all ranks.
template <int Bits, class ExecT, class CommT, class GroupsT>
void serve_over_ranks(ExecT const& exec,
                      CommT const& comm,
                      GroupsT const& groups,
                      index_t slots,
                      View<std::uint64_t const, 1, ExecT> claim,
                      View<Id const, 1, ExecT> assignment,
                      View<Id const, 1, ExecT> expert,
                      View<std::uint32_t, 1, ExecT> served_by)
{
  index_t const experts = groups.count;
  Tensor<std::uint64_t, 1, ExecT> key(exec, experts);
  Tensor<Id, 1, ExecT> left(exec, experts), count(exec, experts * claim_digits_all),
      ties(exec, experts * comm.size());
  ClaimsOfExpert<Bits, ExecT> const claims{claim};
  ClaimThreshold<ExecT> const threshold{key.view(), left.view()};
  auto const most = index_t{std::numeric_limits<Id>::max()};
  exec.for_each_row(
      experts, StartThresholdRow<ExecT>{static_cast<Id>(slots < most ? slots : most), threshold});
  constexpr int digits = (Bits + claim_digit_bits - 1) / claim_digit_bits;
  for (int d = digits; d-- > 0;) {
    int const shift = d * claim_digit_bits;
    exec.for_each_row(experts, CountDigitsRow<Bits, ExecT>{claims, threshold, shift, count.view()});
    comm.all_reduce_sum(exec, count.view());
    exec.for_each_row(experts, ChooseDigitRow<ExecT>{count.const_view(), shift, threshold});
  }
  exec.for_each_row(
      ties.extent(0),
      CountTiesRow<Bits, ExecT>{claims, threshold, experts, comm.rank(), ties.view()});
  comm.all_reduce_sum(exec, ties.view());
  exec.for_each_row(experts + 1,
                    ServeOverRanksRow<Bits, ExecT, GroupsT>{claims,
                                                            threshold,
                                                            ties.const_view(),
                                                            groups,
                                                            comm.rank(),
                                                            assignment,
                                                            expert,
                                                            served_by});
}

}  // namespace moe::detail
