#pragma once
// Ranks that are threads of this process, one GPU each where there are enough, else all on GPU 0;
// passes that they begin together, and the time of the slowest.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include <moe/comm/thread_world.hpp>
#include <moe/moe.cuh>

#include "event.cuh"

namespace moe_bench {

using moe::Cuda;
using moe::index_t;

// Ranks that share a GPU wait for one another on it (moe/comm/cuda/window.cuh). Before main, so
// before CUDA is used.
inline bool const environment_is_set = setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0 &&
                                       setenv("CUDA_MODULE_LOADING", "EAGER", 0) == 0;

inline int gpus()
{
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

// MOE_BENCH_RANKS=2,4; else 2, 4 and 8 as far as there are GPUs, at least 2.
inline std::vector<int> worlds()
{
  std::vector<int> sizes;
  if (char const* const given = std::getenv("MOE_BENCH_RANKS")) {
    std::istringstream list(given);
    for (std::string size; std::getline(list, size, ',');) {
      if (int const P = std::atoi(size.c_str()); P >= 1) { sizes.push_back(P); }
    }
    return sizes;
  }
  for (int P = 2; P == 2 || (P <= 8 && P <= gpus()); P *= 2) {
    sizes.push_back(P);
  }
  return sizes;
}

// This thread's GPU.
inline void use_gpu_of(int rank, int ranks)
{
  MOE_CUDA_TRY(cudaSetDevice(ranks <= gpus() ? rank : 0));
}
inline void label(benchmark::State& state, int ranks)
{
  state.SetLabel(std::to_string(ranks) +
                 (ranks <= gpus() ? " ranks, a GPU each" : " ranks that share GPU 0"));
}

// of_rank[r][i]: the i-th time of rank r -> the median of the slowest.
inline double median_of_slowest(std::vector<std::vector<double>> const& of_rank)
{
  std::vector<double> slowest = of_rank.front();
  for (auto const& times : of_rank) {
    for (std::size_t i = 0; i < times.size(); ++i) {
      slowest[i] = std::max(slowest[i], times[i]);
    }
  }
  return median(slowest);
}

// The mean of the ranks' numbers; when it returns, all ranks have come.
template <class CommT>
[[nodiscard]] index_t agree(CommT const& comm, Cuda const& exec, index_t mine)
{
  exec.synchronize();  // before a copy that might keep ranks of the same GPU from the driver
  moe::Tensor<index_t, 1, Cuda> sum(exec, 1);
  exec.copy_from_host(sum.view().data_handle(), &mine, sizeof mine);
  comm.all_reduce_sum(exec, sum.view());
  exec.copy_to_host(&mine, sum.view().data_handle(), sizeof mine);
  return mine / comm.size();
}

// The same on a rank: 3 to warm up, then as many as fit into 0.7 s, 4 to 25.
template <class CommT, class Pass>
[[nodiscard]] std::vector<double> seconds_on_rank(CommT const& comm,
                                                  Cuda const& exec,
                                                  Pass const& pass)
{
  for (int i = 0; i < 3; ++i) {
    pass();
  }
  double const once  = std::max(seconds_of(exec, 1, pass).front(), 1e-6);
  auto const passes  = static_cast<index_t>(std::clamp(0.7 / once, 4., 25.));
  index_t const most = agree(comm, exec, passes);
  return seconds_of(exec, static_cast<int>(most), pass);
}

// Median seconds of each of several passes of one stream, taken in turns: what changes with time
// changes for all of them.
[[nodiscard]] inline std::vector<double> seconds_in_turns(
    Cuda const& exec, std::vector<std::function<void()>> const& passes)
{
  double once = 0;
  for (auto const& pass : passes) {
    pass();
    pass();
    once += seconds_of(exec, 1, pass).front();
  }
  int const rounds = static_cast<int>(std::clamp(3. / std::max(once, 1e-6), 7., 51.));
  std::vector<std::vector<Event>> at;  // of each round: before each pass, and the end
  for (int i = 0; i < rounds; ++i) {
    at.emplace_back(passes.size() + 1);
    for (std::size_t p = 0; p < passes.size(); ++p) {
      at.back()[p].record(exec);
      passes[p]();
    }
    at.back().back().record(exec);
  }
  std::vector<double> medians;
  for (std::size_t p = 0; p < passes.size(); ++p) {
    std::vector<double> times;
    for (auto const& round : at) {
      times.push_back(round[p + 1].seconds_since(round[p]));
    }
    medians.push_back(median(times));
  }
  return medians;
}

// A row of many passes, whose time is taken by hand. Where it cannot be had (memory, a peer that
// failed) the row says why.
template <class Row>
void add_row(std::string const& name, Row const& row)
{
  auto const or_error = [row](benchmark::State& state) {
    try {
      row(state);
    } catch (moe::Error const& error) {
      state.SkipWithError(error.what());
    }
  };
  benchmark::RegisterBenchmark(name.c_str(), or_error)
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}
inline void set_time(benchmark::State& state, double seconds)
{
  for (auto _ : state) {
    state.SetIterationTime(seconds);
  }
}

}  // namespace moe_bench
