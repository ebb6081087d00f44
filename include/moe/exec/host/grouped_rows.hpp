#pragma once
// Work on the rows of the experts on Host, whose offsets it can read.
#include <algorithm>

#include <moe/exec/host.hpp>
#include <moe/expert/expert_rows.hpp>

namespace moe {

// f(team, e, r) for every row r of every expert e of `groups`, rows in any order.
template <class F>
void for_each_grouped_row(Host const& exec, RowGroups<Host> const& groups, F const& f)
{
  if (groups.experts() <= 0) { return; }
  index_t live = 0;
  for (index_t e = groups.first; e < groups.last; ++e) {
    live += groups.end(e) - groups.begin(e);
  }
  index_t const blocks = std::min<index_t>(live, exec.threads() == 1 ? 1 : 16 * exec.threads());
  exec.for_each_task(blocks, [&](int, index_t b) {
    index_t skip = live * b / blocks, todo = live * (b + 1) / blocks - skip;
    for (index_t e = groups.first; todo > 0; ++e) {
      index_t const n    = groups.end(e) - groups.begin(e);
      index_t const from = std::min(skip, n), count = std::min(n - from, todo);
      for (index_t i = 0; i < count; ++i) {
        f(SerialTeam{}, e, groups.begin(e) + from + i);
      }
      skip -= from;
      todo -= count;
    }
  });
}

// call(groups of one expert) for every expert of `groups`.
template <class Call>
void for_each_expert(Host const&, RowGroups<Host> const& groups, Call const& call)
{
  for (Id e = groups.first; e < groups.last; ++e) {
    call(groups.only(e, e + 1));
  }
}

}  // namespace moe
