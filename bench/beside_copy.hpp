#pragma once
// What moves bytes within a space, beside a copy of as many, since none can be quicker than its
// memory.
#include <algorithm>
#include <cstddef>
#include <vector>

#include "timer.hpp"

namespace moe_bench {

using moe::index_t;

inline double median_of(std::vector<double> times)
{
  auto const middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

// `moved` bytes are read and written, all told; `of_copy` is the share of a copy's speed. Medians,
// the copy's from the same process just before.
template <class ExecT, class Work>
void measure_beside_copy(benchmark::State& state,
                         ExecT const& exec,
                         index_t moved,
                         Work const& work)
{
  auto const time = [&](auto const& what) {
    Timer<ExecT> const timer(exec);
    what();
    return timer.stop();
  };
  double copy = 0;
  {
    moe::Tensor<std::byte, 1, ExecT> from(exec, moved / 2), to(exec, moved / 2);
    exec.zero(from.view().data_handle(), from.bytes());
    auto const copy_once = [&] {
      exec.copy(to.view().data_handle(), from.view().data_handle(), from.bytes());
    };
    copy_once();
    std::vector<double> times(21);
    std::generate(times.begin(), times.end(), [&] { return time(copy_once); });
    copy = median_of(times);
  }
  work();
  std::vector<double> times;
  for (auto _ : state) {
    times.push_back(time(work));
    state.SetIterationTime(times.back());
  }
  state.counters["bytes/s"]      = static_cast<double>(moved) / median_of(times);
  state.counters["copy_bytes/s"] = static_cast<double>(moved) / copy;
  state.counters["of_copy"]      = copy / median_of(times);
}

}  // namespace moe_bench
