// Windows of ranks that are threads, one kernel at a time: what compute-sanitizer can run.
#include <moe/comm/cuda/thread_window.cuh>
#include <moe/comm/thread_world.hpp>

#include <chrono>

#include <doctest/doctest.h>

#include "support/window_ranks.hpp"

using namespace moe;
using namespace moe::test;

TEST_CASE("ranks that take turns on the GPU")
{
  for (int const P : {1, 2, 3, 5}) {
    CAPTURE(P);
    ThreadWorld(P, {.deadline = std::chrono::minutes(4)}).run([](ThreadCommunicator const& comm) {
      Cuda const exec;
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
