#pragma once
// The time of one iteration, reported by hand so that every space can measure in its own way: Host
// by a steady clock, with the space waited for at both ends, Cuda by events on its stream.
#include <chrono>
#include <cstddef>

#include <benchmark/benchmark.h>

#include "space.hpp"
#if defined(__CUDACC__)
#include "event.cuh"
#endif

namespace moe_bench {

using TimePoint = std::chrono::steady_clock::time_point;

// When everything that `exec` was given so far is done.
template <moe::ExecutionSpace ExecT>
TimePoint now(ExecT const& exec)
{
  exec.synchronize();
  return std::chrono::steady_clock::now();
}
inline double seconds(TimePoint from, TimePoint to)
{
  return std::chrono::duration<double>(to - from).count();
}

template <moe::ExecutionSpace ExecT>
class Timer {
 public:
  explicit Timer(ExecT const& exec) : exec_{exec}, start_{now(exec)} {}
  [[nodiscard]] double stop() const { return seconds(start_, now(exec_)); }

 private:
  ExecT const& exec_;
  TimePoint start_;
};

#if defined(__CUDACC__)
template <>
class Timer<moe::Cuda> {
 public:
  explicit Timer(moe::Cuda const& exec) : exec_{exec}
  {
    exec.synchronize();
    start_.record(exec);
  }
  [[nodiscard]] double stop() const
  {
    stop_.record(exec_);
    return stop_.seconds_since(start_);
  }

 private:
  moe::Cuda const& exec_;
  Event start_, stop_;
};
#endif

// A row: `work` once for memory, caches and a GPU's kernels, which load at their first launch, then
// once per iteration, timed from an idle space.
template <moe::ExecutionSpace ExecT, class Work>
void measure(benchmark::State& state, ExecT const& exec, Work const& work)
{
  work();
  for (auto _ : state) {
    Timer<ExecT> const timer(exec);
    work();
    state.SetIterationTime(timer.stop());
  }
}

// Sizes and rates as counters.
inline benchmark::Counter per_second(double amount)
{
  return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
}
inline benchmark::Counter bytes(std::size_t n)
{
  return benchmark::Counter(
      static_cast<double>(n), benchmark::Counter::kDefaults, benchmark::Counter::OneK::kIs1024);
}

}  // namespace moe_bench
