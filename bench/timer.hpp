#pragma once
// The time of one iteration, reported by hand so that every space can measure in its own way:
// here by a steady clock, with the space waited for at both ends.
#include <chrono>

#include <benchmark/benchmark.h>

#include <moe/exec/execution_space.hpp>

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
  Timer(benchmark::State& state, ExecT const& exec) : state_{state}, exec_{exec}, start_{now(exec)}
  {
  }
  Timer(Timer const&)            = delete;
  Timer& operator=(Timer const&) = delete;
  ~Timer() { state_.SetIterationTime(seconds(start_, now(exec_))); }

 private:
  benchmark::State& state_;
  ExecT const& exec_;
  TimePoint start_;
};

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
