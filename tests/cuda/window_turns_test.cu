// Windows of ranks that are threads, and small collectives over one, one kernel at a time: what
// compute-sanitizer can run.
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

TEST_CASE("ranks that take turns on the GPU")
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

TEST_CASE("small collectives of ranks that take turns")
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
