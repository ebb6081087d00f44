#pragma once
// From the intervals of one step to times of phases: each phase's own, and the unions of what runs
// side by side on several streams.
#include <algorithm>
#include <cstddef>
#include <vector>

#include <moe/exec/profile_report.hpp>

namespace moe::detail {

struct Interval {  // ms
  double begin, end;
};

// Sorted and disjoint.
inline void unite(std::vector<Interval>& all)
{
  std::sort(all.begin(), all.end(), [](Interval const& a, Interval const& b) {
    return a.begin < b.begin;
  });
  std::size_t n = 0;
  for (Interval const& next : all) {
    if (next.end <= next.begin) { continue; }
    if (n > 0 && next.begin <= all[n - 1].end) {
      all[n - 1].end = std::max(all[n - 1].end, next.end);
    } else {
      all[n++] = next;
    }
  }
  all.resize(n);
}
inline double length_of(std::vector<Interval> const& united)
{
  double sum = 0;
  for (Interval const& i : united) {
    sum += i.end - i.begin;
  }
  return sum;
}
// Of the intersection of two unions.
inline double overlap_of(std::vector<Interval> const& a, std::vector<Interval> const& b)
{
  double sum = 0;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    sum += std::max(0.0, std::min(a[i].end, b[j].end) - std::max(a[i].begin, b[j].begin));
    if (a[i].end < b[j].end) {
      ++i;
    } else {
      ++j;
    }
  }
  return sum;
}

// One scope, on the time line of its step. Its parent is the scope that it lies within on the same
// stream; both are in the order in which they began.
struct TimedPhase {
  Phase phase;
  int pass;    // a row of ProfileReport::times
  int parent;  // -1: none
  double begin, end;
  bool whole = true;  // else it is not known when it ran
};

// Sums over steps.
class ProfileTotals {
 public:
  void add(std::vector<TimedPhase> const& step)
  {
    communication_.clear();
    computation_.clear();
    cursor_.resize(step.size());
    for (std::size_t i = 0; i < step.size(); ++i) {
      auto const& p = step[i];
      cursor_[i]    = p.begin;
      if (!p.whole) { continue; }
      int outer = p.parent;
      while (outer >= 0 && !step[static_cast<std::size_t>(outer)].whole) {
        outer = step[static_cast<std::size_t>(outer)].parent;
      }
      if (outer >= 0) {
        auto const parent = static_cast<std::size_t>(outer);
        piece(step[parent], cursor_[parent], p.begin);
        cursor_[parent] = std::max(cursor_[parent], p.end);
      }
      time(p).calls += 1;
    }
    for (std::size_t i = 0; i < step.size(); ++i) {
      if (step[i].whole) { piece(step[i], cursor_[i], step[i].end); }
    }
    unite(communication_);
    unite(computation_);
    communication_ms += length_of(communication_);
    computation_ms += length_of(computation_);
    both_ms += overlap_of(communication_, computation_);
    ++steps;
  }

  // Times and calls alone.
  [[nodiscard]] ProfileReport report() const
  {
    ProfileReport r;
    double const n = steps > 0 ? static_cast<double>(steps) : 1;
    r.steps        = steps;
    for (int p = 0; p < ProfileReport::passes; ++p) {
      for (int i = 0; i < ProfileReport::rows; ++i) {
        r.times[p][i] = {times_[p][i].ms / n, times_[p][i].calls / n};
      }
    }
    r.router_ms        = r.of(Phase::router).ms;
    r.dispatch_ms      = r.of(Phase::dispatch).ms;
    r.experts_ms       = r.of(Phase::experts).ms;
    r.combine_ms       = r.of(Phase::combine).ms;
    r.communication_ms = communication_ms / n;
    r.computation_ms   = computation_ms / n;
    if (communication_ms > 0) { r.overlap = both_ms / communication_ms; }
    if (computation_ms > 0) { r.communication_to_computation = communication_ms / computation_ms; }
    return r;
  }

  index_t steps           = 0;
  double communication_ms = 0, computation_ms = 0, both_ms = 0;

 private:
  [[nodiscard]] PhaseTime& time(TimedPhase const& p)
  {
    return times_[p.pass][is_pass(p.phase) ? stage_phases : static_cast<int>(p.phase)];
  }
  // A part of a phase in which nothing within it ran. The rest of a pass, `other`, may be the
  // host's work between launches, so it does not count as computation.
  void piece(TimedPhase const& of, double begin, double end)
  {
    time(of).ms += std::max(0.0, end - begin);
    if (is_pass(of.phase)) { return; }
    (of.phase == Phase::communication ? communication_ : computation_).push_back({begin, end});
  }

  Array<Array<PhaseTime, ProfileReport::rows>, ProfileReport::passes> times_{};
  std::vector<Interval> communication_, computation_;  // of one step
  std::vector<double> cursor_;  // up to where a phase's time is accounted for
};

}  // namespace moe::detail
