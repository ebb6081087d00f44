#pragma once
// The parts of a layer's work that a profiler tells apart. A phase is a scope:
//   auto const phase = exec.phase(Phase::experts);
// Without a profiler on the handle that is a look at a pointer.

namespace moe {

enum class Phase {
  router,         // the gate, the routing, and back
  plan,           // slots
  dispatch,       // rows and weights packed and unpacked
  communication,  // collectives, the wait for other ranks included
  experts,
  combine,
  shared_expert,
  losses,  // and the counts that statistics are made of
  // What the others are part of: a pass, one call of the layer.
  forward,
  backward,
  evaluate
};
inline constexpr int stage_phases = 8;  // those that are part of a pass
inline constexpr int all_phases   = 11;

inline constexpr bool is_pass(Phase p)
{
  return p >= Phase::forward;
}

constexpr char const* name_of(Phase p)
{
  constexpr char const* names[all_phases] = {"router",
                                             "plan",
                                             "dispatch",
                                             "communication",
                                             "experts",
                                             "combine",
                                             "shared expert",
                                             "losses",
                                             "forward",
                                             "backward",
                                             "evaluate"};
  return names[static_cast<int>(p)];
}

// Tells `RecorderT` where a phase begins and ends; nothing where there is none. Neither copied nor
// moved, so phases of a thread lie within each other.
template <class RecorderT>
class [[nodiscard("a phase lasts as long as this object")]] PhaseScope {
 public:
  template <class TrackT>
  PhaseScope(RecorderT* recorder, Phase phase, TrackT const& track) : recorder_{recorder}
  {
    if (recorder_ != nullptr) { record_ = recorder_->begin(phase, track); }
  }
  PhaseScope(PhaseScope const&)            = delete;
  PhaseScope& operator=(PhaseScope const&) = delete;
  ~PhaseScope()
  {
    if (recorder_ != nullptr) { recorder_->end(record_); }
  }

 private:
  RecorderT* recorder_;
  int record_ = -1;
};

}  // namespace moe
