#pragma once
// Rounds over a window on a GPU: every rank stores a block into every rank's memory and compares
// what has come. The round is counted on the device, so that a graph can be replayed.
#include <moe/comm/cuda/window.cuh>
#include <moe/core/tensor.hpp>

#include <cstdint>

#include "support/shared_gpu.hpp"

namespace moe::test {

static __global__ void window_spin_kernel(unsigned long long nanoseconds)
{
  unsigned long long const start = detail::window_time();
  while (detail::window_time() - start < nanoseconds) {}
}
// What is enqueued next comes this much later.
inline void run_late(Cuda const& exec, double milliseconds)
{
  window_spin_kernel<<<1, 1, 0, exec.stream()>>>(
      static_cast<unsigned long long>(milliseconds * 1e6));
  MOE_CUDA_TRY(cudaGetLastError());
}

// Block r of each rank's memory, `words` long, is rank r's.
struct StoreBlocks {  // a row for each rank
  WindowView view;
  index_t words;
  index_t const* round;

  __device__ static std::uint64_t value(index_t from, index_t to, index_t round, index_t i)
  {
    return static_cast<std::uint64_t>((((from * 37 + to) * 1009 + round) << 24) + i);
  }
  template <Team G>
  __device__ void operator()(G team, index_t to) const
  {
    auto* const block =
        reinterpret_cast<std::uint64_t*>(view.of(static_cast<int>(to))) + view.rank * words;
    for (index_t i = team.lane(); i < words; i += team.size()) {
      block[i] = value(view.rank, to, *round, i);
    }
  }
};
struct CompareBlocks {  // a row for each rank
  WindowView view;
  index_t words;
  index_t const* round;
  int* wrong;

  template <Team G>
  __device__ void operator()(G team, index_t from) const
  {
    auto const* const block =
        reinterpret_cast<std::uint64_t const*>(view.of(view.rank)) + from * words;
    for (index_t i = team.lane(); i < words; i += team.size()) {
      if (block[i] != StoreBlocks::value(from, view.rank, *round, i)) { atomicAdd(wrong, 1); }
    }
  }
};
struct NextRound {
  index_t* round;
  template <Team G>
  __device__ void operator()(G team, index_t) const
  {
    if (team.lane() == 0) { ++*round; }
  }
};
struct ReadFailed {
  WindowView view;
  int* failed;
  template <Team G>
  __device__ void operator()(G team, index_t) const
  {
    if (team.lane() == 0) { *failed = view.failed() ? 1 : 0; }
  }
};

// One rank's rounds. Channel 0: the blocks are there; channel 1: they have been read.
class WindowRounds {
 public:
  WindowRounds(Cuda const& exec, Window<Cuda> const& window, index_t words)
      : exec_{exec}, window_{window}, words_{words}, round_(exec, 1), wrong_(exec, 1)
  {
    exec_.zero(round_.view().data_handle(), sizeof(index_t));
    exec_.zero(wrong_.view().data_handle(), sizeof(int));
  }
  [[nodiscard]] static std::size_t bytes(int ranks, index_t words)
  {
    return static_cast<std::size_t>(ranks * words) * sizeof(std::uint64_t);
  }

  [[nodiscard]] StoreBlocks blocks()
  {
    return {window_.view(), words_, round_.view().data_handle()};
  }
  void store() { exec_.for_each_row(window_.size(), blocks()); }
  void compare()
  {
    exec_.for_each_row(
        window_.size(),
        CompareBlocks{
            window_.view(), words_, round_.view().data_handle(), wrong_.view().data_handle()});
  }
  void run()
  {
    run([this](Cuda const& exec) {
      store();
      window_.signal(exec, 0);
    });
  }
  template <class StoreAndSignal>
  void run(StoreAndSignal const& store_and_signal)
  {
    store_and_signal(exec_);
    window_.wait(exec_, 0);
    compare();
    window_.signal(exec_, 1);
    window_.wait(exec_, 1);
    next();
  }
  // Signals and waits go together, those of the blocks in the launch that stores them.
  void run_together()
  {
    run_together([this](Cuda const& exec) {
      moe::detail::for_each_row_and_wait(exec, window_.size(), blocks(), window_, 0);
    });
  }
  template <class StoreSignalAndWait>
  void run_together(StoreSignalAndWait const& store_signal_and_wait)
  {
    store_signal_and_wait(exec_);
    compare();
    window_.signal_and_wait(exec_, 1);
    next();
  }
  // These wait for the stream.
  [[nodiscard]] int mistakes() { return get(wrong_.view().data_handle()); }
  [[nodiscard]] index_t rounds() { return get(round_.view().data_handle()); }

 private:
  void next() { exec_.for_each_row(1, NextRound{round_.view().data_handle()}); }
  template <class T>
  T get(T const* p)
  {
    T value{};
    exec_.synchronize();  // before the copy, which might keep other threads from the driver
    exec_.copy_to_host(&value, p, sizeof(T));
    return value;
  }

  Cuda exec_;
  Window<Cuda> const& window_;
  index_t words_;
  Tensor<index_t, 1, Cuda> round_;
  Tensor<int, 1, Cuda> wrong_;
};

}  // namespace moe::test
