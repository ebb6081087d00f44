// The recorder behind a handle, on a clock made by hand that has streams, captures and moments that
// pass late, as a GPU's; and on Host's own.
#include <moe/core/tensor.hpp>
#include <moe/exec/host.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <vector>

#include "support/tracking_resource.hpp"

using moe::Host, moe::HostProfiler, moe::Phase, moe::PhaseScope, moe::ProfilerOptions,
    moe::StateError;

namespace {
std::atomic<long> news{0};
}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes)
{
  ++news;
  if (void* const p = std::malloc(bytes == 0 ? 1 : bytes)) { return p; }
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept
{
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept
{
  std::free(p);
}

namespace {

// What the clock of one test does.
struct Hands {
  double now   = 0;    // ms
  double done  = 1e9;  // moments up to here have passed
  int captured = -1;   // a stream that is being captured
  int failing  = -1;   // a stream in which no moment can be taken
  int made = 0, in_use = 0, waits = 0, ranges = 0;
  bool no_memory = false;
};
Hands hands;

struct HandClock {
  using Track = int;
  using Stamp = double;
  explicit HandClock(ProfilerOptions const&) {}
  Stamp make()
  {
    if (hands.no_memory) { throw std::bad_alloc(); }
    ++hands.in_use;
    hands.made += hands.in_use > hands.made ? 1 : 0;
    return -1;
  }
  void give_back(Stamp) { --hands.in_use; }
  static bool runs(Track track) { return track != hands.captured; }
  static bool mark(Stamp& at, Track track)
  {
    at = hands.now;
    return track != hands.failing;
  }
  static bool passed(Stamp at) { return at <= hands.done; }
  static void wait(Stamp) { ++hands.waits; }
  static double ms(Stamp from, Stamp to) { return to - from; }
  static void push(Phase) { ++hands.ranges; }
  static void pop() { --hands.ranges; }
  std::uint64_t* counter() { return &counted_; }
  [[nodiscard]] std::uint64_t counted() const { return counted_; }

 private:
  std::uint64_t counted_ = 0;
};
using HandProfiler = moe::Profiler<HandClock>;
static_assert(!std::copyable<PhaseScope<HandProfiler::Recorder>> &&
              !std::movable<PhaseScope<HandProfiler::Recorder>>);

struct HandSpace {
  HandProfiler profiler;
  [[nodiscard]] PhaseScope<HandProfiler::Recorder> phase(Phase p, int track = 0) const
  {
    return {profiler.recorder().get(), p, track};
  }
};

HandSpace fresh()
{
  hands = {};
  return {HandProfiler{}};
}

// Of 20 ms: a router of 5 with losses of 2 within it, and communication of 12 on stream 1 beside.
void run_step(HandSpace const& space)
{
  auto const pass = space.phase(Phase::forward);
  hands.now += 1;
  {
    auto const side = space.phase(Phase::communication, 1);
    {
      auto const router = space.phase(Phase::router);
      hands.now += 3;
      auto const losses = space.phase(Phase::losses);
      hands.now += 2;
    }
    hands.now += 7;
  }
  hands.now += 7;
}

}  // namespace

TEST_CASE("phases lie within each other on their stream, and belong to the pass that is open")
{
  auto space = fresh();
  for (int step = 0; step < 3; ++step) {
    run_step(space);
    space.profiler.end_step();
    hands.now += 100;
  }
  auto const r = space.profiler.report();
  CHECK(r.steps == 3);
  CHECK(r.of(Phase::forward, Phase::router).ms == 3);
  CHECK(r.of(Phase::forward, Phase::losses).ms == 2);
  CHECK(r.of(Phase::forward, Phase::communication).ms == 12);
  CHECK(r.times[0][moe::stage_phases].ms == 15);  // of stream 0, where 20 ms are the pass's
  CHECK(r.communication_ms == 12);
  CHECK(r.overlap == 5. / 12);
  CHECK(r.of(Phase::router).calls == 1);
  CHECK(hands.in_use == 0);
  CHECK(hands.ranges == 0);
}

TEST_CASE("nothing waits before the report; what steps took is used again")
{
  auto space = fresh();
  hands.done = 0;
  for (int step = 0; step < 4; ++step) {
    run_step(space);
    space.profiler.end_step();
  }
  CHECK(hands.waits == 0);
  CHECK(hands.in_use == 4 * 8);  // no step is done yet
  hands.done = 40;               // the first two are
  run_step(space);
  space.profiler.end_step();
  CHECK(hands.in_use == 3 * 8);
  CHECK(hands.waits == 0);
  auto const r = space.profiler.report();
  CHECK(hands.waits > 0);
  CHECK(r.steps == 5);
  CHECK(r.router_ms == 3);
  CHECK(hands.in_use == 0);
  CHECK(hands.made == 5 * 8);

  hands.done = 1e9;
  for (int step = 0; step < 50; ++step) {
    run_step(space);
    space.profiler.end_step();
  }
  CHECK(hands.made == 5 * 8);
}

TEST_CASE("a stream under capture is left out, what began or ended within one too")
{
  auto space     = fresh();
  hands.captured = 0;
  run_step(space);
  hands.captured = -1;
  {
    auto const pass = space.phase(Phase::forward);
    hands.now += 1;
    {
      auto const plan = space.phase(Phase::plan);
      hands.captured  = 0;
      hands.now += 4;
      auto const within = space.phase(Phase::router);
    }
    hands.captured = -1;
  }
  auto const r = space.profiler.report();
  CHECK(r.of(Phase::router).calls == 0);
  CHECK(r.of(Phase::plan).calls == 0);
  CHECK(r.of(Phase::communication).calls == 1);  // of a stream that was not captured
  CHECK(r.of(Phase::forward).ms == 5);
  CHECK(hands.in_use == 0);
  CHECK(hands.ranges == 0);
}

TEST_CASE("a moment that could not be taken, and one that there was no memory for")
{
  auto space    = fresh();
  hands.failing = 1;
  run_step(space);
  hands.failing   = -1;
  hands.no_memory = true;
  CHECK_THROWS_AS((void)space.phase(Phase::experts), std::bad_alloc);
  hands.no_memory = false;
  run_step(space);
  auto const r = space.profiler.report();
  CHECK(r.of(Phase::communication).calls == 1);
  CHECK(r.of(Phase::experts).calls == 0);
  CHECK(r.of(Phase::router).calls == 2);
  CHECK(r.steps == 1);
}

TEST_CASE("an exception ends its phases; reports within a phase are refused")
{
  auto space = fresh();
  try {
    auto const pass   = space.phase(Phase::backward);
    auto const within = space.phase(Phase::experts);
    hands.now += 4;
    throw std::runtime_error("of the work");
  } catch (std::runtime_error const&) {
  }
  {
    auto const phase = space.phase(Phase::combine);
    CHECK_THROWS_WITH_AS((void)space.profiler.report(),
                         "moe::Profiler::report: a phase is combine, must be ended before",
                         StateError);
    CHECK_THROWS_AS(space.profiler.end_step(), StateError);
    CHECK_THROWS_AS(space.profiler.reset(), StateError);
    hands.now += 1;
  }
  run_step(space);
  auto const r = space.profiler.report();
  CHECK(r.of(Phase::backward, Phase::experts).ms == 4);
  CHECK(r.of(Phase::combine).ms == 1);
  CHECK(r.of(Phase::router).ms == 3);
  CHECK(hands.in_use == 0);
}

TEST_CASE("deeper than anybody nests, phases are left out and those around them are whole")
{
  auto space         = fresh();
  auto const descend = [&](auto const& self, int depth) -> void {
    if (depth == 0) { return; }
    auto const phase = space.phase(Phase::plan);
    hands.now += 1;
    self(self, depth - 1);
  };
  descend(descend, 40);
  auto const r = space.profiler.report();
  CHECK(r.of(Phase::plan).ms == 40);
  CHECK(r.of(Phase::plan).calls == 16);
}

TEST_CASE("bytes, loads and memory; reset starts again from what is in use")
{
  struct Loads {
    double dropped, largest;
    [[nodiscard]] double dropped_fraction() const { return dropped; }
    [[nodiscard]] double max_over_mean() const { return largest; }
  };
  moe::test::CountingResource memory;
  HostProfiler profiler;
  Host const plain({.threads = 1, .resource = &memory});
  Host const exec = plain.with(profiler);
  {
    moe::Tensor<float, 1, Host> const kept(exec, 1000);
    for (int step = 0; step < 2; ++step) {
      auto const pass = exec.phase(Phase::forward);
      moe::Tensor<float, 1, Host> const a(exec, 500), b(exec, 20 + step);
      auto const phase = exec.phase(Phase::communication);
      exec.count_sent(600);
      exec.count_sent(0);
      *exec.sent_there() += 100;  // as what runs there does
      profiler.add_load(Loads{0.25 * step, 1. + step});
    }
    auto const r = profiler.report();
    CHECK(r.steps == 1);
    CHECK(r.bytes_sent == 1400);
    CHECK(r.collectives == 2);
    CHECK(r.bus_bandwidth == doctest::Approx(1400 / (r.communication_ms / 1e3)));
    CHECK(r.dropped == 0.125);
    CHECK(r.load_max_over_mean == 1.5);
    CHECK(r.arena_bytes == 4 * (1000 + 500 + 21));
    CHECK(r.arena_bytes == static_cast<double>(memory.high_water()));

    profiler.reset();
    auto const none = profiler.report();
    CHECK(none.steps == 0);
    CHECK(none.bytes_sent == 0);
    CHECK(std::isnan(none.dropped));
    CHECK(none.of(Phase::communication).calls == 0);
    CHECK(none.arena_bytes == 4000);
  }
  profiler.reset();
  CHECK(profiler.report().arena_bytes == 0);
  CHECK(memory.mistakes() == 0);
}

// Tensors return their memory through the handle that they are from.
TEST_CASE("memory outlives the profiler's own handle, and other handles' is not counted")
{
  Host const plain({.threads = 1});
  moe::Tensor<float, 1, Host> kept;
  {
    HostProfiler profiler;
    moe::Tensor<float, 1, Host> const uncounted(plain, 100);
    kept = moe::Tensor<float, 1, Host>(plain.with(profiler).lane(2), 50);
    CHECK(profiler.report().arena_bytes == 200);
  }
  kept = {};
}

TEST_CASE("on Host a steady state asks for no memory, and without a profiler nothing does")
{
  HostProfiler profiler;
  Host const plain({.threads = 1});
  Host const exec     = plain.with(profiler);
  auto const run_host = [](Host const& h) {
    auto const pass = h.phase(Phase::forward);
    for (int i = 0; i < 30; ++i) {
      auto const phase = h.lane(1).phase(Phase::experts);
      h.count_sent(1);
    }
  };
  run_host(exec);
  profiler.end_step();
  run_host(exec);
  profiler.end_step();
  long const before = news;
  for (int step = 0; step < 20; ++step) {
    run_host(exec);
    profiler.end_step();
    run_host(plain);
  }
  CHECK(news == before);
  auto const r = profiler.report();
  CHECK(r.steps == 22);
  CHECK(r.of(Phase::experts).calls == 30);
  CHECK(r.bytes_sent == 30);
  CHECK(r.collectives == 30);
}

TEST_CASE("without times a profiler counts, and records nothing")
{
  HostProfiler profiler({.times = false});
  Host const exec = Host({.threads = 1}).with(profiler);
  {
    auto const phase = exec.phase(Phase::communication);
    exec.count_sent(10);
  }
  profiler.end_step();
  auto const r = profiler.report();
  CHECK(r.steps == 0);
  CHECK(r.bytes_sent == 10);
  CHECK(r.of(Phase::communication).calls == 0);
}
