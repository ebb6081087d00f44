#pragma once
// A window's flags, awaited by a warp of a kernel.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <cstdint>

#include <moe/comm/window.hpp>

namespace moe::detail {

// In pinned memory of the host, which the first wait that fails writes; P words follow, 1 for each
// rank that is missing.
struct WindowReport {
  enum State : std::uint32_t { none, timed_out, stopped };
  std::uint32_t state;  // written last
  std::uint32_t stop;   // by the host: waits are to end
  std::uint64_t channel, count;
};

// A look takes some hundred nanoseconds, and a flag about a microsecond to come over NVLink: ranks
// that come together do not sleep.
struct WindowWaitTuning {
  unsigned looks_awake;                    // before the first sleep
  unsigned shortest_sleep, longest_sleep;  // nanoseconds between two looks at a flag
  unsigned looks_per_stop;                 // at flags, for one at the clock and the host's memory
};
inline constexpr WindowWaitTuning window_wait_tuning{
    .looks_awake = 64, .shortest_sleep = 32, .longest_sleep = 256, .looks_per_stop = 32};

__device__ inline std::uint64_t load_acquire(std::uint64_t const* p)
{
  std::uint64_t value;
  asm volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(value) : "l"(p) : "memory");
  return value;
}
__device__ inline unsigned long long window_time()
{
  unsigned long long nanoseconds;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(nanoseconds));
  return nanoseconds;
}

// The block's first warp, or what there is of it.
struct FirstWarp {
  [[nodiscard]] __device__ static unsigned lanes() { return blockDim.x < 32 ? blockDim.x : 32; }
  [[nodiscard]] __device__ static unsigned mask() { return 0xffffffffu >> (32 - lanes()); }
};

// By all lanes of the first warp: until the flags of `size` ranks are `count` or more. At the
// deadline, when the host says stop, and at once where a wait has failed before, it ends without
// them; the first two are reported.
//
// Each lane's last look at a flag acquires what the peer stored before it raised that flag. What
// comes after this kernel in its stream comes after the ends of all lanes, so it sees what each of
// them has acquired; no fence is needed here for that.
__device__ inline void wait_for_flags(WindowWait const& w, int size, std::uint64_t count)
{
  constexpr WindowWaitTuning tuning = window_wait_tuning;
  unsigned const all                = FirstWarp::mask();
  unsigned long long const start    = window_time();
  bool const failed_before          = *static_cast<std::uint32_t const volatile*>(w.status) != 0;
  bool missing = false, stopped = false;
  for (int peer = static_cast<int>(threadIdx.x); peer < size;
       peer += static_cast<int>(FirstWarp::lanes())) {
    unsigned sleep = tuning.shortest_sleep;
    // The first look is under way before it is known whether one has failed.
    for (unsigned looks = 1; load_acquire(w.flags + peer) < count && !failed_before; ++looks) {
      if (looks % tuning.looks_per_stop == 0) {
        stopped = stopped || *static_cast<std::uint32_t const volatile*>(&w.report->stop) != 0;
        if (stopped || window_time() - start > w.nanoseconds) {
          missing             = true;
          auto* const of_rank = reinterpret_cast<std::uint32_t*>(w.report + 1);
          static_cast<std::uint32_t volatile*>(of_rank)[peer] = 1;
          break;
        }
      }
      if (looks >= tuning.looks_awake) {
        __nanosleep(sleep);
        sleep = min(2 * sleep, tuning.longest_sleep);
      }
    }
  }
  bool const any_missing = __any_sync(all, missing ? 1 : 0) != 0;
  if (!any_missing) { return; }
  bool const any_stopped = __any_sync(all, stopped ? 1 : 0) != 0;
  __threadfence_system();  // which ranks are missing comes before the state
  __syncwarp(all);
  if (threadIdx.x != 0) { return; }
  auto volatile* const report = w.report;
  report->channel             = static_cast<std::uint64_t>(w.channel);
  report->count               = count;
  __threadfence_system();
  report->state = any_stopped ? WindowReport::stopped : WindowReport::timed_out;
  *static_cast<std::uint32_t volatile*>(w.status) = 1;
}

}  // namespace moe::detail
