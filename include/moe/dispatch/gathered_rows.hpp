#pragma once
// What AllGatherExchange works out row by row.
#include <moe/core/element.hpp>
#include <moe/core/search.hpp>
#include <moe/plan/routing_plan.hpp>

namespace moe {
namespace detail {

// What a rank tells all others of its batch, padded to the largest. Of each assignment the expert,
// or -1 when it was dropped; of each token the assignments.
template <class S, class ExecT>
struct DescribeBatchRow {
  TokenAssignments<ExecT> assignments;
  View<Id const, 1, ExecT> slot_of, expert_offsets;  // (A), (E + 1)
  View<S const, 1, ExecT> weight;                    // (A)
  View<Id, 1, ExecT> expert;                         // (most A)
  View<S, 1, ExecT> weight_sent;                     // (most A)
  View<Id, 1, ExecT> range;                          // (most T, 2)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    if (team.lane() != 0) { return; }
    if (i < expert.extent(0)) {
      bool const kept = i < assignments.count && slot_of(i) >= 0;
      expert(i)      = kept ? static_cast<Id>(lower_bound(expert_offsets, slot_of(i) + 1) - 1) : -1;
      weight_sent(i) = kept ? weight(i) : S{0};
    }
    if (2 * i < range.extent(0)) {
      bool const real  = i < assignments.tokens;
      range(2 * i)     = real ? static_cast<Id>(assignments.begin(i)) : 0;
      range(2 * i + 1) = real ? static_cast<Id>(assignments.end(i)) : 0;
    }
  }
};

// Of the gathered assignments, sorted below by expert: which are of this rank's.
template <class ExecT>
struct MineRow {
  index_t first, count;               // experts here
  View<Id const, 1, ExecT> expert;    // (P * most A)
  View<std::uint32_t, 1, ExecT> key;  // its number here, or L
  View<Id, 1, ExecT> place, row_of;   // a; -1

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t a) const
  {
    if (team.lane() != 0) { return; }
    index_t const e = expert(a) - first;
    key(a)          = static_cast<std::uint32_t>(expert(a) >= 0 && e >= 0 && e < count ? e : count);
    place(a)        = static_cast<Id>(a);
    row_of(a)       = -1;
  }
};

template <class ExecT>
struct OffsetsRow {
  View<std::uint32_t const, 1, ExecT> key;  // sorted
  View<Id, 1, ExecT> offsets;               // (L + 1)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t e) const
  {
    if (team.lane() == 0) {
      offsets(e) = static_cast<Id>(lower_bound(key, static_cast<std::uint32_t>(e)));
    }
  }
};

// Token t of all, with its assignments: where its rows are.
template <class ExecT>
struct TokenOfAssignmentRow {
  index_t tokens_each, assignments_each;  // most T, most A
  View<Id const, 1, ExecT> range;         // (P * most T, 2)
  View<Id, 1, ExecT> token_of;            // (P * most A)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const before = t / tokens_each * assignments_each;
    for (index_t a = range(2 * t) + team.lane(); a < range(2 * t + 1); a += team.size()) {
      token_of(before + a) = static_cast<Id>(t);
    }
  }
};

template <class ExecT>
struct GatheredRow {
  View<Id const, 1, ExecT> assignment_at;  // (R)
  View<Id const, 1, ExecT> token_of;       // (P * most A)
  View<Id, 1, ExecT> token_at;             // (R)
  View<Id, 1, ExecT> row_of;               // (P * most A)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    if (team.lane() != 0) { return; }
    token_at(r)              = token_of(assignment_at(r));
    row_of(assignment_at(r)) = static_cast<Id>(r);
  }
};

// sum(t) = sum over the choices of t that are here, in order, of weight(a) rows(row_of(a))
template <class T, class ExecT>
struct PartialSumRow {
  using S = accumulator_t<T>;
  index_t tokens_each, assignments_each;
  View<Id const, 1, ExecT> range, row_of;
  View<S const, 1, ExecT> weight;  // (P * most A) or empty
  View<T const, 2, ExecT> rows;    // (R, D)
  View<S, 2, ExecT> sum;           // (P * most T, D)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const before = t / tokens_each * assignments_each;
    index_t const from = before + range(2 * t), to = before + range(2 * t + 1);
    for (index_t d = team.lane(); d < sum.extent(1); d += team.size()) {
      S s = 0;
      for (index_t a = from; a < to; ++a) {
        if (row_of(a) < 0) { continue; }
        S const w = weight.data_handle() == nullptr ? S{1} : weight(a);
        s += w * static_cast<S>(rows(row_of(a), d));
      }
      sum(t, d) = s;
    }
  }
};

// y(t) = addend(t) + sum(t), rounded once
template <class T, class ExecT>
struct AddSumRow {
  using S = accumulator_t<T>;
  View<S const, 2, ExecT> sum, addend;  // (most T, D); (T, D) or empty
  View<T, 2, ExecT> y;                  // (T, D)
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    for (index_t d = team.lane(); d < y.extent(1); d += team.size()) {
      S const before = addend.data_handle() == nullptr ? S{0} : addend(t, d);
      y(t, d)        = static_cast<T>(before + sum(t, d));
    }
  }
};

// at(index(i)) = from(i)
template <class S, class ExecT>
struct ScatterNumberRow {
  View<S const, 1, ExecT> from;
  View<Id const, 1, ExecT> index;
  View<S, 1, ExecT> at;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    if (team.lane() == 0) { at(index(i)) = from(i); }
  }
};

}  // namespace detail

}  // namespace moe
