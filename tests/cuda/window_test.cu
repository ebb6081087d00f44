// Windows of ranks that are threads, and of a world of one.
#include <moe/comm/cuda/thread_window.cuh>
#include <moe/comm/thread_world.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"
#include "support/rank_gpus.hpp"
#include "support/window_ranks.hpp"

using namespace moe;
using namespace moe::test;

namespace {

ThreadWorldOptions const patient{.deadline = std::chrono::seconds(60)};

void exchange(
    ThreadCommunicator const& comm, index_t words, int rounds, bool late, bool together = false)
{
  Cuda const exec   = cuda_of(comm);
  auto const window = comm.window(exec, WindowRounds::bytes(comm.size(), words));
  WindowRounds mine(exec, window, words);
  for (int round = 0; round < rounds; ++round) {
    if (late && (round * 7 + comm.rank() * 5) % 11 == 0) { run_late(exec, 0.5); }
    together ? mine.run_together() : mine.run();
  }
  CHECK(mine.mistakes() == 0);
  CHECK(mine.rounds() == rounds);
  CHECK_NOTHROW(window.check());
}

}  // namespace

TEST_CASE("what a rank stored before its signal is there after the wait")
{
  for (int const P : {1, 2, 3, 4, 8}) {
    CAPTURE(P);
    ThreadWorld(P, patient).run([](ThreadCommunicator const& comm) {
      exchange(comm, 1001, 40, false);
      exchange(comm, 7, 40, true);
    });
  }
}

TEST_CASE("stores, signal and wait in one launch")
{
  for (int const P : {1, 2, 3, 4, 8}) {
    CAPTURE(P);
    ThreadWorld(P, patient).run([](ThreadCommunicator const& comm) {
      exchange(comm, 1001, 40, false, /*together*/ true);
      exchange(comm, 7, 40, true, /*together*/ true);
    });
  }
}

TEST_CASE("a window: its facts, zeros, an alignment of 256 bytes")
{
  ThreadWorld(3, patient).run([](ThreadCommunicator const& comm) {
    Cuda const exec   = cuda_of(comm);
    auto const window = comm.window(exec, 1001, {.channels = 3});
    CHECK(window.bytes() == 1001);
    CHECK(window.rank() == comm.rank());
    CHECK(window.size() == 3);
    CHECK(window.channels() == 3);
    CHECK(reinterpret_cast<std::uintptr_t>(window.local()) % 256 == 0);
    std::vector<unsigned char> bytes(1001, 1);
    exec.copy_to_host(bytes.data(), window.local(), bytes.size());
    CHECK(bytes == std::vector<unsigned char>(1001, 0));
    std::vector<std::byte*> memory(3);
    exec.copy_to_host(memory.data(), window.view().memory, 3 * sizeof(std::byte*));
    CHECK(memory[static_cast<std::size_t>(comm.rank())] == window.local());
    auto const empty = comm.window(exec, 0);
    empty.signal(exec, 7);
    empty.wait(exec, 7);
    exec.synchronize();
    CHECK_NOTHROW(empty.check());
  });
}

TEST_CASE("channels count apart, and a rank may signal often before the others wait")
{
  ThreadWorld(4, patient).run([](ThreadCommunicator const& comm) {
    Cuda const exec   = cuda_of(comm);
    auto const window = comm.window(exec, 64, {.channels = 16});
    for (int round = 0; round < 5; ++round) {
      for (int c = 0; c < 16; ++c) {
        window.signal(exec, (c + comm.rank() * 3) % 16);
      }
      for (int c = 15; c >= 0; --c) {
        window.wait(exec, c);
      }
    }
    exec.synchronize();
    CHECK_NOTHROW(window.check());
  });
}

// Store, signal, wait, compare, signal, wait: the counts go on from replay to replay.
TEST_CASE("a captured graph is replayed on all ranks")
{
  for (int const P : {2, 4}) {
    for (bool const together : {false, true}) {
      CAPTURE(P);
      CAPTURE(together);
      ThreadWorld(P, patient).run([&](ThreadCommunicator const& comm) {
        Cuda const exec     = cuda_of(comm);
        index_t const words = 300;
        auto const window   = comm.window(exec, WindowRounds::bytes(comm.size(), words));
        WindowRounds mine(exec, window, words);
        auto const round = [&] { together ? mine.run_together() : mine.run(); };
        round();
        exec.synchronize();
        cudaGraph_t graph        = nullptr;
        cudaGraphExec_t replayed = nullptr;
        MOE_CUDA_TRY(cudaStreamBeginCapture(exec.stream(), cudaStreamCaptureModeThreadLocal));
        CHECK_THROWS_AS((void)comm.window(exec, 64), StateError);
        round();
        MOE_CUDA_TRY(cudaStreamEndCapture(exec.stream(), &graph));
        MOE_CUDA_TRY(cudaGraphInstantiate(&replayed, graph, 0));
        MOE_CUDA_TRY(cudaGraphUpload(replayed, exec.stream()));
        exec.synchronize();
        // All are made before any runs.
        std::vector<int> x{1};
        comm.all_reduce_sum(Host{{.threads = 1}}, as_view(x));
        for (int i = 0; i < 50; ++i) {
          if ((i + comm.rank()) % 13 == 0) { run_late(exec, 0.3); }
          MOE_CUDA_TRY(cudaGraphLaunch(replayed, exec.stream()));
        }
        round();
        CHECK(mine.mistakes() == 0);
        CHECK(mine.rounds() == 52);
        CHECK_NOTHROW(window.check());
        comm.all_reduce_sum(Host{{.threads = 1}}, as_view(x));  // returning graphs may wait
        MOE_CUDA_TRY(cudaGraphExecDestroy(replayed));
        MOE_CUDA_TRY(cudaGraphDestroy(graph));
      });
    }
  }
}

namespace {

// StoreBlocks' words, by a kernel that raises the flag itself: blocks come to its end at any time.
__global__ void __launch_bounds__(1024)
    store_and_signal_kernel(StoreBlocks store, WindowSignal signal)
{
  index_t const words = store.words * store.view.size;
  index_t const step  = index_t{gridDim.x} * blockDim.x;
  for (index_t n = index_t{blockIdx.x} * blockDim.x + threadIdx.x; n < words; n += step) {
    auto const to = static_cast<int>(n / store.words);
    auto* const block =
        reinterpret_cast<std::uint64_t*>(store.view.of(to)) + store.view.rank * store.words;
    block[n % store.words] = StoreBlocks::value(store.view.rank, to, *store.round, n % store.words);
  }
  signal_when_stored(signal);
}

// The same counts, whoever signals and waits.
void signal_in_kernels(ThreadCommunicator const& comm,
                       unsigned blocks,
                       unsigned threads,
                       index_t words)
{
  Cuda const exec   = cuda_of(comm);
  auto const window = comm.window(exec, WindowRounds::bytes(comm.size(), words));
  WindowRounds mine(exec, window, words);
  auto const store = [&](Cuda const& on, std::optional<WindowSignal> const& signal) {
    REQUIRE(signal.has_value());
    store_and_signal_kernel<<<blocks, threads, 0, on.stream()>>>(mine.blocks(), *signal);
    MOE_CUDA_TRY(cudaGetLastError());
  };
  for (int round = 0; round < 60; ++round) {
    if ((round * 7 + comm.rank() * 5) % 11 == 0) { run_late(exec, 0.3); }
    if (round % 3 == 0) {
      mine.run();
    } else if (round % 3 == 1) {
      mine.run([&](Cuda const& on) { store(on, window.signal_of_kernel(on, 0)); });
    } else {
      mine.run_together(
          [&](Cuda const& on) { store(on, window.signal_and_wait_of_kernel(on, 0)); });
    }
  }
  CHECK(mine.mistakes() == 0);
  CHECK(mine.rounds() == 60);
  CHECK_NOTHROW(window.check());
}

}  // namespace

TEST_CASE("a kernel that stores and signals, and waits, in one launch")
{
  for (int const P : {1, 2, 4}) {
    CAPTURE(P);
    ThreadWorld(P, patient).run([](ThreadCommunicator const& comm) {
      signal_in_kernels(comm, 1, 64, 7);
      signal_in_kernels(comm, 97, 64, 20001);
      signal_in_kernels(comm, 5, 24, 300);        // less than a warp
      signal_in_kernels(comm, 600, 1024, 50001);  // more than run at once
    });
  }
  ThreadWorld(1, patient).run([](ThreadCommunicator const& comm) {
    Cuda const exec;
    auto const turns = comm.window(exec, 64, {.one_kernel_at_a_time = true});
    CHECK_FALSE(turns.signal_of_kernel(exec, 0).has_value());
    CHECK_FALSE(turns.signal_and_wait_of_kernel(exec, 0).has_value());
    auto const window = comm.window(exec, 64);
    CHECK(window.signal_and_wait_of_kernel(exec, 0).has_value());
    // A block of each rank would be on all multiprocessors that there are for it.
    CHECK_FALSE(
        window.signal_and_wait_of_kernel(exec.sparing(exec.multiprocessors()), 0).has_value());
  });
}

TEST_CASE("windows of groups, several at once")
{
  ThreadWorld(4, patient).run([](ThreadCommunicator const& comm) {
    auto const pair = comm.split(comm.rank() % 2, comm.rank());
    Cuda const exec = cuda_of(comm);
    auto const a    = comm.window(exec, WindowRounds::bytes(4, 50));
    auto const b    = pair.window(exec, WindowRounds::bytes(2, 20));
    WindowRounds in_a(exec, a, 50), in_b(exec, b, 20);
    for (int round = 0; round < 10; ++round) {
      in_a.run();
      in_b.run();
    }
    CHECK(in_a.mistakes() + in_b.mistakes() == 0);
  });
}

// Their stores come when the window's owner has let it go, in any order.
TEST_CASE("memory stays for what peers' streams have still to store")
{
  ThreadWorld(3, patient).run([](ThreadCommunicator const& comm) {
    Cuda const exec = cuda_of(comm);
    for (int gone = 0; gone < 3; ++gone) {
      index_t const words = 1 << 20;
      auto window         = std::make_optional(comm.window(exec, WindowRounds::bytes(3, words)));
      WindowRounds mine(exec, *window, words);
      if (comm.rank() != gone) {
        run_late(exec, 20);
        mine.store();
        mine.store();
      }
      window.reset();
    }
    exec.synchronize();
  });
}

// 40 times two of 2 GiB would not fit; all streams are idle now and then only.
TEST_CASE("windows that all ranks have let go return their memory")
{
  ThreadWorld(2, patient).run([](ThreadCommunicator const& comm) {
    Cuda const exec = cuda_of(comm);
    for (int repeat = 0; repeat < 40; ++repeat) {
      auto const window = comm.window(exec, std::size_t{2} << 30);
      WindowRounds mine(exec, window, 100);
      mine.run();
    }
    exec.synchronize();
  });
}

TEST_CASE("all ranks' windows let go by one thread, after their communicators")
{
  std::vector<std::optional<Window<Cuda>>> windows(3);
  ThreadWorld(3, patient).run([&](ThreadCommunicator const& comm) {
    windows[static_cast<std::size_t>(comm.rank())] = comm.window(cuda_of(comm), 4096);
  });
  windows[1].reset();
  {
    use_gpu_of(2, 3);
    Cuda const exec;
    exec.zero(windows[2]->local(), 4096);
    exec.synchronize();
    use_gpu_of(0, 3);
  }
  windows.clear();
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("a world of one")
{
  Cuda const exec;
  auto const window = SelfCommunicator{}.window(exec, WindowRounds::bytes(1, 77));
  WindowRounds mine(exec, window, 77);
  for (int round = 0; round < 5; ++round) {
    mine.run();
  }
  CHECK(mine.mistakes() == 0);
  CHECK(window.size() == 1);
  CHECK_NOTHROW(window.check());
  CHECK_THROWS_AS(window.signal(exec, 8), ValueError);
}
