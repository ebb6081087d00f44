#pragma once
// What OneSidedExchange works out and stores row by row. Kernels store straight into the memory of
// peers; nothing here is known to the host but bounds.
#include <algorithm>
#include <cstddef>

#include <moe/core/element.hpp>
#include <moe/dispatch/once_per_rank.hpp>
#include <moe/dispatch/one_sided_window.hpp>

namespace moe::detail {

inline constexpr index_t teams_over_rows = 8192;  // where only the device knows how many rows

// To the rank of each expert: how many rows come for it, and of each slot the token and the weight.
template <class S, class ExecT>
struct StoreHeaderRow {
  OneSidedMemory to;
  TokenAssignments<ExecT> assignments;
  View<Id const, 1, ExecT> slot_of;         // (A)
  View<Id const, 1, ExecT> kept;            // (E)
  View<Id const, 1, ExecT> expert_offsets;  // (E + 1)
  View<S const, 1, ExecT> weight;           // (A)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    index_t const E = kept.extent(0), P = to.at.ranks, me = to.view.rank;
    index_t const end = (row + 1) * numbers_of_row;
    for (index_t i = row * numbers_of_row + team.lane(); i < end; i += team.size()) {
      if (i < E) {
        index_t const rank = part_with(E, P, i), first = part_of(E, P, rank).first;
        to.in<Id>(rank, to.at.count)[me * to.at.experts_each + i - first] = kept(i);
        if (i == first) { to.in<Id>(rank, to.at.first)[me] = expert_offsets(i); }
      }
      if (i < assignments.count && slot_of(i) >= 0) {
        index_t const e    = lower_bound(expert_offsets, slot_of(i) + 1) - 1;
        index_t const rank = part_with(E, P, e), at = me * to.at.choices + slot_of(i);
        to.in<Id>(rank, to.at.token)[at] = static_cast<Id>(assignments.token_of(i));
        to.in<S>(rank, to.at.weight)[at] = weight(i);
      }
    }
  }
};

// The part with which a token's row goes as it comes to choice a, or -1.
template <class ExecT>
struct RowGoesRow {
  TokenAssignments<ExecT> assignments;
  index_t parts, chunks;             // P * chunks
  View<Id const, 1, ExecT> part_of;  // (A)
  View<Id, 1, ExecT> goes_to;        // (A)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    index_t const from = assignments.begin(t), to = assignments.end(t);
    for (index_t a = from + team.lane(); a < to; a += team.size()) {
      bool const goes = part_of(a) < parts && sent_with(part_of, from, to, a, chunks) == a;
      goes_to(a)      = goes ? part_of(a) : -1;
    }
  }
};

// Row t of tokens to the ranks that it goes to in this chunk.
template <class T, class ExecT>
struct StoreTokenRow {
  OneSidedMemory to;
  std::size_t region;
  TokenAssignments<ExecT> assignments;
  View<Id const, 1, ExecT> goes_to;  // (A)
  index_t chunks, chunk;
  View<T const, 2, ExecT> tokens;  // (T, D)

  // Null where it does not go with choice a.
  [[nodiscard]] MOE_HOST_DEVICE T* target(index_t t, index_t a) const
  {
    Id const part = goes_to(a), parts = static_cast<Id>(chunks);
    if (part < 0 || part % parts != chunk) { return nullptr; }
    return to.row<T>(part / parts, region, to.view.rank * to.at.tokens + t);
  }
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    T const* const source = tokens.data_handle() + t * to.at.width;
    for (index_t a = assignments.begin(t); a < assignments.end(t); ++a) {
      T* const into = target(t, a);
      if (into == nullptr) { continue; }
      for (index_t d = team.lane(); d < to.at.width; d += team.size()) {
        into[d] = source[d];
      }
    }
  }
};

// What a source says of its rows, if it makes sense: else, and where its words have not come, it
// has none, so that nothing is out of bounds.
template <class ExecT>
struct CountRow {
  OneSidedMemory from;
  index_t experts;           // L
  View<Id, 1, ExecT> count;  // (P * L)
  View<Id, 1, ExecT> first;  // (P)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t s) const
  {
    Id const* const given = from.here<Id>(from.at.count) + s * from.at.experts_each;
    Id const slot         = from.here<Id>(from.at.first)[s];
    Id wrong              = from.view.failed() || slot < 0 ? 1 : 0;
    double rows           = 0;
    for (index_t e = team.lane(); e < experts; e += team.size()) {
      wrong = given[e] < 0 ? 1 : wrong;
      rows += given[e];
    }
    wrong         = team.max(wrong);
    rows          = team.sum(rows);
    bool const ok = wrong == 0 && slot + rows <= static_cast<double>(from.at.choices);
    for (index_t e = team.lane(); e < experts; e += team.size()) {
      count(s * experts + e) = ok ? given[e] : 0;
    }
    if (team.lane() == 0) { first(s) = ok ? slot : 0; }
  }
};

// Teams that take turns at the rows from one rank for one expert, where R came at most for all.
[[nodiscard]] inline index_t arrival_teams(index_t R, index_t groups)
{
  constexpr index_t rows_of_team = 128, most = 64;
  return groups == 0 ? 1 : std::clamp(R / groups / rows_of_team, index_t{1}, most);
}

// count(s, e) rows came from rank s for local expert e. Rows of experts lie by (e, s, slot).
template <class ExecT>
struct OneSidedArrivalRow {
  OneSidedMemory from;
  index_t experts;                 // L
  index_t teams;                   // of each (s, e)
  View<Id const, 1, ExecT> count;  // (P * L)
  View<Id const, 1, ExecT> first;  // (P)
  View<Id, 1, ExecT> offsets;      // (L + 1)
  View<Id, 1, ExecT> arrived_at;   // (R) row of an expert -> token's row as it arrived
  View<Id, 1, ExecT> home_at;      // (R) row of an expert -> source * most A + slot there

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    index_t const i = row / teams, turn = row % teams;
    index_t const all = from.at.ranks * experts, source = i / experts, expert = i % experts;
    Id before_slot = 0, before_row = 0, of_lower = 0;
    for (index_t j = team.lane(); j < all; j += team.size()) {
      index_t const s = j / experts, e = j % experts;
      before_slot += s == source && e < expert ? count(j) : 0;
      of_lower += e < expert ? count(j) : 0;
      before_row += e == expert && s < source ? count(j) : 0;
    }
    of_lower             = team.sum(of_lower);
    before_row           = team.sum(before_row) + of_lower;
    index_t const slot   = first(source) + team.sum(before_slot);
    Id const* const list = from.here<Id>(from.at.token);
    index_t const step   = teams * team.size();
    for (index_t n = turn * team.size() + team.lane(); n < count(i); n += step) {
      index_t const at           = source * from.at.choices + slot + n;
      Id const token             = list[at];
      bool const ok              = token >= 0 && token < from.at.tokens;
      arrived_at(before_row + n) = static_cast<Id>(source * from.at.tokens + (ok ? token : 0));
      home_at(before_row + n)    = static_cast<Id>(at);
    }
    if (turn > 0 || team.lane() > 0) { return; }
    if (source == 0) { offsets(expert) = of_lower; }
    if (i == all - 1) { offsets(experts) = static_cast<Id>(before_row + count(i)); }
  }
};

// Rows of the experts [first, last) to their slots at their sources. Which rows these are the
// device knows, so some teams take turns.
template <class T, class ExecT>
struct StoreHomeRow {
  OneSidedMemory to;
  View<Id const, 1, ExecT> offsets, home_at;
  index_t first, last, teams;
  View<T const, 2, ExecT> rows;  // (R, D)

  [[nodiscard]] MOE_HOST_DEVICE T* target(index_t r) const
  {
    Id const at = home_at(r), each = static_cast<Id>(to.at.choices);
    return to.row<T>(at / each, to.at.home, at % each);
  }
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    for (index_t r = offsets(first) + i; r < offsets(last); r += teams) {
      T const* const source = rows.data_handle() + r * to.at.width;
      T* const into         = target(r);
      for (index_t d = team.lane(); d < to.at.width; d += team.size()) {
        into[d] = source[d];
      }
    }
  }
};

// rows(r) = the weight that came for it; 0 behind the last row.
template <class S, class ExecT>
struct WeightOfRowRow {
  OneSidedMemory from;
  View<Id const, 1, ExecT> offsets, home_at;
  View<S, 1, ExecT> rows;  // (R)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    S const* const weight = from.here<S>(from.at.weight);
    index_t const live    = offsets(offsets.extent(0) - 1);
    for (index_t r = row * numbers_of_row + team.lane(); r < (row + 1) * numbers_of_row;
         r += team.size()) {
      if (r < rows.extent(0)) { rows(r) = r < live ? weight[home_at(r)] : S{0}; }
    }
  }
};

// A number of each row to its slot at its source.
template <class S, class ExecT>
struct StoreNumberHomeRow {
  OneSidedMemory to;
  View<Id const, 1, ExecT> offsets, home_at;
  View<S const, 1, ExecT> rows;  // (R)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t row) const
  {
    index_t const live = offsets(offsets.extent(0) - 1);
    for (index_t r = row * numbers_of_row + team.lane(); r < (row + 1) * numbers_of_row;
         r += team.size()) {
      if (r < live) {
        index_t const rank = home_at(r) / to.at.choices, slot = home_at(r) % to.at.choices;
        to.in<S>(rank, to.at.d_home)[slot] = rows(r);
      }
    }
  }
};

// The handle to store rows on: some multiprocessors of a GPU where the experts of other chunks work
// beside it.
template <class ExecT>
[[nodiscard]] ExecT storing(ExecT const& exec,
                            [[maybe_unused]] index_t chunks,
                            [[maybe_unused]] int multiprocessors)
{
  if constexpr (requires { exec.sparing(0); }) {
    int const all = exec.multiprocessors();
    if (chunks > 1 && multiprocessors > 0 && multiprocessors < all) {
      return exec.sparing(all - multiprocessors);
    }
  }
  return exec;
}

// A space may have overloads (dispatch/cuda/one_sided.cuh).
template <class ExecT, class T>
void store_rows(ExecT const& exec, StoreTokenRow<T, ExecT> const& row)
{
  exec.for_each_row(row.tokens.extent(0), row);
}
template <class ExecT, class T>
void store_rows(ExecT const& exec, StoreHomeRow<T, ExecT> const& row)
{
  exec.for_each_row(row.teams, row);
}
// And then a signal, or a signal and the wait for the peers'.
template <class ExecT, class RowT>
void store_rows(
    ExecT const& exec, RowT const& row, Window<ExecT> const& window, int channel, bool waits)
{
  store_rows(exec, row);
  if (waits) { return window.signal_and_wait(exec, channel); }
  window.signal(exec, channel);
}

}  // namespace moe::detail
