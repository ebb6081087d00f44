#pragma once
// Measures what a layer's phases take and send: event-based, off until a handle is told,
//   HostProfiler profiler;                          // or CudaProfiler
//   auto const profiled = exec.with(profiler);      // a handle like exec; exec itself stays as it
//   is for (...) { layer.forward(profiled, ...); ...; profiler.end_step(); }
//   std::puts(to_text(profiler.report()).c_str());
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include <moe/core/error.hpp>
#include <moe/exec/profile_times.hpp>

namespace moe {

struct ProfilerOptions {
  bool times = true;   // off: bytes, memory and ranges alone
  bool nvtx  = false;  // on Cuda also NVTX ranges of the phases, for Nsight Systems
};

namespace detail {

// What a handle with a profiler reports to. `ClockT`, a space's:
//   Track                   what orders the work of a phase: a stream; on Host nothing
//   Stamp                   a moment; make() may allocate, give_back(stamp) keeps it for the next
//   runs(track)             whether a moment can be taken there now
//   mark(stamp, track)      takes it, in the order of the track; false where that failed
//   passed(stamp), wait(stamp), ms(from, to)   reading it
//   push(phase), pop()      ranges for other tools
//   counter(), counted()    a number that the space's work adds to, and what it is by now
template <class ClockT>
class Recorder {
 public:
  using Track = typename ClockT::Track;
  using Stamp = typename ClockT::Stamp;

  explicit Recorder(ProfilerOptions options) : clock{options}, times_{options.times} {}
  Recorder(Recorder const&)            = delete;
  Recorder& operator=(Recorder const&) = delete;

  // The number of the record; -1: nothing is recorded.
  int begin(Phase phase, Track const& track)
  {
    int const record =
        times_ && depth_ < open_.size() && clock.runs(track) ? open(phase, track) : -1;
    clock.push(phase);
    return record;
  }
  void end(int record) noexcept
  {
    clock.pop();
    if (record < 0) { return; }
    auto& r = records_[static_cast<std::size_t>(record)];
    r.whole = r.whole && clock.runs(r.track) && clock.mark(r.end, r.track);
    --depth_;
  }
  void count_sent(std::size_t bytes) noexcept
  {
    sent_ += bytes;
    collectives_ += bytes > 0 ? 1 : 0;
  }
  // Where the space's own work adds bytes that the host does not know.
  [[nodiscard]] std::uint64_t* sent_there() noexcept { return clock.counter(); }
  // These two from any thread: tensors are returned where they go out of scope.
  void allocated(std::size_t bytes) noexcept
  {
    auto const now = in_use_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    auto most      = most_in_use_.load(std::memory_order_relaxed);
    while (most < now &&
           !most_in_use_.compare_exchange_weak(most, now, std::memory_order_relaxed)) {}
  }
  void deallocated(std::size_t bytes) noexcept
  {
    in_use_.fetch_sub(bytes, std::memory_order_relaxed);
  }
  void add_load(double dropped, double max_over_mean) noexcept
  {
    dropped_ += dropped;
    max_over_mean_ += max_over_mean;
    ++loads_;
  }

  void end_step(char const* operation)
  {
    refuse_open(operation);
    if (!records_.empty()) {
      std::vector<Record> next;
      if (!spare_.empty()) {
        next = std::move(spare_.back());
        spare_.pop_back();
      }
      steps_.push_back(std::move(records_));
      records_ = std::move(next);
    }
    fold(/*wait*/ false);
  }
  [[nodiscard]] ProfileReport report()
  {
    end_step("moe::Profiler::report");
    fold(/*wait*/ true);
    auto r         = totals_.report();
    double const n = r.steps > 0 ? static_cast<double>(r.steps) : 1;
    r.bytes_sent   = static_cast<double>(sent_ + clock.counted() - counted_before_) / n;
    r.collectives  = static_cast<double>(collectives_) / n;
    if (r.communication_ms > 0) { r.bus_bandwidth = r.bytes_sent / (r.communication_ms / 1e3); }
    if (loads_ > 0) {
      r.dropped            = dropped_ / static_cast<double>(loads_);
      r.load_max_over_mean = max_over_mean_ / static_cast<double>(loads_);
    }
    r.arena_bytes = static_cast<double>(most_in_use_.load(std::memory_order_relaxed));
    return r;
  }
  void reset()
  {
    end_step("moe::Profiler::reset");
    for (auto& step : steps_) {
      recycle(step);
    }
    steps_.clear();
    totals_ = {};
    sent_ = collectives_ = loads_ = 0;
    counted_before_               = clock.counted();
    dropped_ = max_over_mean_ = 0;
    most_in_use_              = in_use_.load();
  }

  ClockT clock;

 private:
  struct Record {
    Phase phase;
    int pass, parent;
    Track track;
    Stamp begin, end;
    bool whole;  // both moments were taken
  };

  int open(Phase phase, Track const& track)
  {
    int const index = static_cast<int>(records_.size());
    Record r{phase, ProfileReport::passes - 1, -1, track, {}, {}, false};
    for (int i = depth_ - 1; i >= 0; --i) {
      auto const& outer = records_[static_cast<std::size_t>(open_[i])];
      if (r.parent < 0 && outer.track == track) { r.parent = open_[i]; }
    }
    if (is_pass(phase)) {
      r.pass = ProfileReport::pass_index(phase);
    } else if (depth_ > 0) {  // also where this is another stream
      r.pass = records_[static_cast<std::size_t>(open_[depth_ - 1])].pass;
    }
    records_.push_back(r);
    auto& kept = records_.back();
    try {
      kept.begin = clock.make();
      kept.end   = clock.make();
    } catch (...) {
      records_.pop_back();  // a moment made before the failure stays with the clock
      throw;
    }
    kept.whole      = clock.mark(kept.begin, track);
    open_[depth_++] = index;
    return index;
  }
  void refuse_open(char const* operation) const
  {
    if (depth_ > 0) {
      throw StateError(operation,
                       "a phase",
                       name_of(records_[static_cast<std::size_t>(open_[depth_ - 1])].phase),
                       "ended before");
    }
  }
  // Reads the steps whose work is done, oldest first, or waits for all; their moments are used
  // again.
  void fold(bool wait)
  {
    std::size_t done = 0;
    while (done < steps_.size() && read(steps_[done], wait)) {
      recycle(steps_[done]);
      ++done;
    }
    steps_.erase(steps_.begin(), steps_.begin() + static_cast<std::ptrdiff_t>(done));
  }
  bool read(std::vector<Record> const& step, bool wait)
  {
    for (std::size_t i = step.size(); i-- > 0;) {  // the last is the likeliest not to be done
      if (!step[i].whole) { continue; }
      if (wait) {
        clock.wait(step[i].end);
      } else if (!clock.passed(step[i].end)) {
        return false;
      }
    }
    timed_.clear();
    Record const* first = nullptr;
    for (auto const& r : step) {
      first = first == nullptr && r.whole ? &r : first;
      timed_.push_back({r.phase,
                        r.pass,
                        r.parent,
                        r.whole ? clock.ms(first->begin, r.begin) : 0,
                        r.whole ? clock.ms(first->begin, r.end) : 0,
                        r.whole});
    }
    totals_.add(timed_);
    return true;
  }
  void recycle(std::vector<Record>& step)
  {
    for (auto const& r : step) {
      clock.give_back(r.begin);
      clock.give_back(r.end);
    }
    step.clear();
    spare_.push_back(std::move(step));
  }

  bool times_;
  std::vector<Record> records_;             // of the step that goes on
  std::vector<std::vector<Record>> steps_;  // ended, not read yet
  std::vector<std::vector<Record>> spare_;
  std::vector<TimedPhase> timed_;
  ProfileTotals totals_;
  Array<int, 16> open_{};  // records, from the outermost
  int depth_          = 0;
  std::uint64_t sent_ = 0, collectives_ = 0;
  std::uint64_t loads_ = 0, counted_before_ = 0;
  double dropped_ = 0, max_over_mean_ = 0;
  std::atomic<std::size_t> in_use_ = 0, most_in_use_ = 0;
};

}  // namespace detail

// A handle: copies are the same profiler. One thread at a time uses it and the handles that have
// it; ranks that are threads have one each. On Cuda all of them are of one device.
//
// A step ends with end_step(), which waits for nothing; what came after the last one counts as a
// step of its own. Records of steps are read when their work is done, and what they took is used
// again, so a loop that calls end_step() allocates nothing in its steady state.
template <class ClockT>
class Profiler {
 public:
  using Recorder = detail::Recorder<ClockT>;

  explicit Profiler(ProfilerOptions options = {}) : recorder_{std::make_shared<Recorder>(options)}
  {
  }
  void end_step() { recorder_->end_step("moe::Profiler::end_step"); }
  // Loads and drops of a batch, as saved.statistics(exec) tells them; the report has their means.
  template <class StatisticsT>
  void add_load(StatisticsT const& statistics)
  {
    recorder_->add_load(statistics.dropped_fraction(), statistics.max_over_mean());
  }
  // Since the beginning or the last reset(). Waits for the device; refused within a phase.
  [[nodiscard]] ProfileReport report() { return recorder_->report(); }
  void reset() { recorder_->reset(); }

  // For a space's with().
  [[nodiscard]] std::shared_ptr<Recorder> const& recorder() const { return recorder_; }

 private:
  std::shared_ptr<Recorder> recorder_;
};

}  // namespace moe
