#pragma once
// What a profiler has seen, per step. profile_text.hpp writes it.
#include <cmath>

#include <moe/core/view.hpp>
#include <moe/exec/phase.hpp>

namespace moe {

struct PhaseTime {
  double ms    = 0;
  double calls = 0;
};

// Times, calls and bytes are means over the steps. A phase's time is its own: without that of
// phases within it on the same stream, so that on one stream the phases of a pass, and what is
// `other`, add up to the pass. Numbers of nothing (a ratio without communication, drops that
// nobody told of) are NaN; in text "-", in JSON null.
struct ProfileReport {
  index_t steps    = 0;
  double router_ms = 0, dispatch_ms = 0, experts_ms = 0, combine_ms = 0;
  // Streams work side by side, so these are not sums: the time in which at least one phase of
  // communication runs, and in which at least one of anything else.
  double communication_ms = 0, computation_ms = 0;
  double overlap                      = NAN;  // part of communication_ms in which both run
  double communication_to_computation = NAN;
  double bytes_sent                   = 0;    // to other ranks, by this one
  double bus_bandwidth                = NAN;  // bytes_sent over communication_ms, in bytes/s
  double dropped                      = NAN;  // of the assignments
  double load_max_over_mean           = NAN;
  double arena_bytes                  = 0;  // most that were in use, of what the handle gave
  double collectives                  = 0;  // that sent something

  static constexpr int passes = 4;                 // forward, backward, evaluate, none
  static constexpr int rows   = stage_phases + 1;  // and what is none of them: other
  Array<Array<PhaseTime, rows>, passes> times{};

  [[nodiscard]] PhaseTime of(Phase pass, Phase stage) const
  {
    return times[pass_index(pass)][static_cast<int>(stage)];
  }
  // Over all passes; of a pass, all of it.
  [[nodiscard]] PhaseTime of(Phase phase) const
  {
    PhaseTime sum;
    if (is_pass(phase)) {
      for (auto const& t : times[pass_index(phase)]) {
        sum.ms += t.ms;
      }
      sum.calls = times[pass_index(phase)][stage_phases].calls;
    } else {
      for (auto const& pass : times) {
        sum.ms += pass[static_cast<int>(phase)].ms;
        sum.calls += pass[static_cast<int>(phase)].calls;
      }
    }
    return sum;
  }
  static constexpr int pass_index(Phase pass) { return static_cast<int>(pass) - stage_phases; }
};

}  // namespace moe
