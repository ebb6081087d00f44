// Windows of ranks that are threads, and small collectives over one, one kernel at a time: what
// compute-sanitizer can run; and kernels that store, signal and wait, of a rank that is alone.
#include <moe/comm/cuda/thread_call.cuh>
#include <moe/comm/cuda/thread_window.cuh>
#include <moe/comm/thread_world.hpp>
#include <moe/comm/window_communicator.hpp>

#include <chrono>
#include <vector>

#include <doctest/doctest.h>

#include "support/rank_gpus.hpp"
#include "support/window_ranks.hpp"

using namespace moe;
using namespace moe::test;

TEST_CASE("ranks that take turns on the GPU" * doctest::test_suite("turns"))
{
  for (int const P : {1, 2, 3, 5}) {
    CAPTURE(P);
    ThreadWorld(P, {.deadline = std::chrono::minutes(4)}).run([](ThreadCommunicator const& comm) {
      Cuda const exec     = cuda_of(comm);
      index_t const words = 33;
      auto const window   = comm.window(
          exec, WindowRounds::bytes(comm.size(), words), {.one_kernel_at_a_time = true});
      WindowRounds mine(exec, window, words);
      for (int round = 0; round < 6; ++round) {
        mine.run();
      }
      CHECK(mine.mistakes() == 0);
      CHECK(mine.rounds() == 6);
      CHECK_NOTHROW(window.check());
    });
  }
}

TEST_CASE("small collectives of ranks that take turns" * doctest::test_suite("turns"))
{
  for (int const P : {1, 2, 3}) {
    CAPTURE(P);
    ThreadWorld(P, {.deadline = std::chrono::minutes(4)}).run([](ThreadCommunicator const& comm) {
      Cuda const exec  = cuda_of(comm);
      auto const ranks = static_cast<std::size_t>(comm.size());
      WindowCommunicator const small(exec, comm, {.bytes = 600, .one_kernel_at_a_time = true});
      Tensor<Half, 1, Cuda> sum(exec, 201);
      Tensor<Id, 1, Cuda> part(exec, 150), gathered(exec, comm.size() * 150);
      for (int round = 1; round <= 3; ++round) {
        std::vector<Half> const halves(201, Half(static_cast<float>(comm.rank() + round)));
        std::vector<Id> const ids(150, comm.rank() * round);
        exec.copy_from_host(sum.view().data_handle(), halves.data(), halves.size() * sizeof(Half));
        exec.copy_from_host(part.view().data_handle(), ids.data(), ids.size() * sizeof(Id));
        small.all_reduce_sum(exec, sum.view());
        small.all_gather(exec, part.const_view(), gathered.view());
        small.wait(exec);
        std::vector<Half> sums(201);
        std::vector<Id> all(150 * ranks);
        exec.copy_to_host(sums.data(), sum.const_view().data_handle(), 201 * sizeof(Half));
        exec.copy_to_host(all.data(), gathered.const_view().data_handle(), all.size() * sizeof(Id));
        int wrong = 0, expected = 0;
        for (int r = 0; r < comm.size(); ++r) {
          expected += r + round;
          for (std::size_t i = 0; i < 150; ++i) {
            wrong += all[static_cast<std::size_t>(r) * 150 + i] == r * round ? 0 : 1;
          }
        }
        for (Half const h : sums) {
          wrong += static_cast<float>(h) == static_cast<float>(expected) ? 0 : 1;
        }
        CHECK(wrong == 0);
      }
    });
  }
}

namespace {

// Word i of the rank's own memory, by row i.
struct StoreWord {
  WindowView view;
  std::uint64_t round;
  template <Team G>
  __device__ void operator()(G team, index_t i) const
  {
    auto* const words = reinterpret_cast<std::uint64_t*>(view.of(view.rank));
    if (team.lane() == 0) { words[i] = 3 * static_cast<std::uint64_t>(i) + round; }
  }
};
// The sum of every `rows`-th word.
struct SumWords {
  WindowView view;
  index_t words, rows;
  std::uint64_t* sum;  // (rows)
  template <Team G>
  __device__ void operator()(G team, index_t row) const
  {
    if (team.lane() != 0) { return; }
    auto const* const word = reinterpret_cast<std::uint64_t const*>(view.of(view.rank));
    sum[row]               = 0;
    for (index_t i = row; i < words; i += rows) {
      sum[row] += word[i];
    }
  }
};

}  // namespace

// A rank that is alone waits for nothing but its own stores.
TEST_CASE("stores, signal and wait in one launch, and what the last block does after them" *
          doctest::test_suite("alone"))
{
  Cuda const exec;
  constexpr index_t rows_then = detail::window_rows_tuning.rows_then;
  for (index_t const words : {1, 8, 9, 2000}) {
    CAPTURE(words);
    auto const window = SelfCommunicator{}.window(
        exec, static_cast<std::size_t>(words) * 8, {.deadline = std::chrono::minutes(4)});
    Tensor<std::uint64_t, 1, Cuda> sums(exec, rows_then);
    for (std::uint64_t round = 1; round <= 3; ++round) {
      StoreWord const store{window.view(), round};
      SumWords const sum{window.view(), words, rows_then, sums.view().data_handle()};
      if (round == 3) {
        detail::for_each_row_and_wait(exec, words, store, window, 0);
        exec.for_each_row(rows_then, sum);
      } else {
        detail::for_each_row_and_wait(exec, words, store, window, 0, rows_then, sum);
      }
      std::vector<std::uint64_t> got(rows_then);
      exec.copy_to_host(got.data(), sums.const_view().data_handle(), got.size() * 8);
      std::uint64_t all = 0;
      for (std::uint64_t const s : got) {
        all += s;
      }
      auto const n = static_cast<std::uint64_t>(words);
      CHECK(all == 3 * n * (n - 1) / 2 + n * round);
    }
    CHECK_NOTHROW(window.check());
  }
}
