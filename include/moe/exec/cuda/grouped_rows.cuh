#pragma once
// Work on the experts' rows on Cuda, whose offsets only the device knows.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <vector>

#include <moe/exec/cuda.cuh>
#include <moe/expert/expert_rows.hpp>

namespace moe {
namespace detail {

// The expert of `groups` that row r belongs to, or -1: not of this call, or a slot that is not
// used.
__device__ inline Id expert_of_row(RowGroups<Cuda> const& groups, index_t r)
{
  if (r < groups.begin(groups.first)) { return -1; }
  Id lo = groups.first, hi = groups.last;  // the last e with begin(e) <= r
  while (hi - lo > 1) {
    Id const mid = lo + (hi - lo) / 2;
    if (groups.begin(mid) <= r) {
      lo = mid;
    } else {
      hi = mid;
    }
  }
  return r < groups.end(lo) ? lo : -1;
}

// Row i of a launch: all rows there are, or, where the host knows them, those of the one expert.
template <class F>
struct GroupedRow {
  RowGroups<Cuda> groups;
  F f;
  template <Team G>
  __device__ void operator()(G team, index_t i) const
  {
    bool const known = groups.known_begin >= 0;
    index_t const r  = known ? groups.known_begin + i : i;
    Id const e       = known ? groups.first : expert_of_row(groups, r);
    if (e >= 0) { f(team, index_t{e}, r); }
  }
};

}  // namespace detail

// f(team, e, r) for every row r of every expert e of `groups`, rows in any order.
template <class F>
void for_each_grouped_row(Cuda const& exec, RowGroups<Cuda> const& groups, F const& f)
{
  if (groups.experts() <= 0) { return; }
  index_t const rows =
      groups.known_begin >= 0 ? groups.known_end - groups.known_begin : groups.rows;
  exec.for_each_row(rows, detail::GroupedRow<F>{groups, f});
}

// call(groups of one expert) for every expert of `groups`. With cuBLAS for the experts' products
// the host must know how many rows each has, and waits for the device; with the library's own it
// need not.
template <class Call>
void for_each_expert(Cuda const& exec, RowGroups<Cuda> const& groups, Call const& call)
{
  if (exec.products() == Products::own) {
    for (Id e = groups.first; e < groups.last; ++e) {
      call(groups.only(e, e + 1));
    }
    return;
  }
  index_t const experts = groups.offsets.extent(0) - 1;
  std::vector<Id> offsets(static_cast<std::size_t>(experts + 1)), counts;
  bool const padded = groups.counts.data_handle() != nullptr;
  if (padded) {
    counts.resize(static_cast<std::size_t>(experts));
    exec.copy_to_host(counts.data(), groups.counts.data_handle(), counts.size() * sizeof(Id));
  }
  exec.copy_to_host(offsets.data(), groups.offsets.data_handle(), offsets.size() * sizeof(Id));
  for (Id e = groups.first; e < groups.last; ++e) {
    auto const at       = static_cast<std::size_t>(e);
    index_t const begin = offsets[at];
    call(groups.only(e, begin, padded ? begin + counts[at] : offsets[at + 1]));
  }
}

}  // namespace moe
