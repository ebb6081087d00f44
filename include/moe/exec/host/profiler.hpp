#pragma once
// The profiler of the Host space: a steady clock.
#include <chrono>
#include <cstdint>

#include <moe/exec/profiler.hpp>

namespace moe {
namespace detail {

struct HostClock {
  struct Track {
    friend constexpr bool operator==(Track, Track) = default;
  };
  using Stamp = std::chrono::steady_clock::time_point;

  explicit HostClock(ProfilerOptions const&) {}
  static Stamp make() { return {}; }
  static void give_back(Stamp) {}
  static bool runs(Track) { return true; }
  static bool mark(Stamp& at, Track)
  {
    at = std::chrono::steady_clock::now();
    return true;
  }
  static bool passed(Stamp) { return true; }
  static void wait(Stamp) {}
  static double ms(Stamp from, Stamp to)
  {
    return std::chrono::duration<double, std::milli>(to - from).count();
  }
  static void push(Phase) {}
  static void pop() {}
  [[nodiscard]] std::uint64_t* counter() { return &counted_; }
  [[nodiscard]] std::uint64_t counted() const { return counted_; }

 private:
  std::uint64_t counted_ = 0;
};

}  // namespace detail

using HostProfiler = Profiler<detail::HostClock>;

}  // namespace moe
