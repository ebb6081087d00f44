// Windows of processes, through CUDA IPC, and of a world of one through NCCL's device API. Where
// processes share a GPU they take turns on it, a wait lasts some milliseconds: few rounds.
#include "support/nccl_processes.hpp"

#include <moe/comm/cuda/nccl_window.cuh>

#include <algorithm>
#include <stdexcept>
#include <string_view>

#include "support/window_ranks.hpp"

using namespace moe;
using namespace moe::test;

namespace {

template <class CommT>
void exchange(Cuda const& exec, CommT const& comm, index_t words, int rounds)
{
  auto const window = comm.window(exec, WindowRounds::bytes(comm.size(), words));
  CHECK(window.rank() == comm.rank());
  CHECK(window.size() == comm.size());
  WindowRounds mine(exec, window, words);
  for (int round = 0; round < rounds; ++round) {
    mine.run();
  }
  CHECK(mine.mistakes() == 0);
  CHECK(mine.rounds() == rounds);
  CHECK_NOTHROW(window.check());
}

NcclOptions const some_seconds{.deadline       = std::chrono::seconds(30),
                               .abort_deadline = std::chrono::seconds(20)};

std::vector<int> all_well(int P)
{
  return std::vector<int>(static_cast<std::size_t>(P), 0);
}

}  // namespace

TEST_CASE("a world of one has a window without NCCL")
{
  Cuda const exec;
  exchange(exec, NcclCommunicator({}, 0, 1), 100, 5);
  exchange(exec, NcclDeviceCommunicator({}, 0, 1), 100, 5);
}

TEST_CASE("a window of NCCL's device API, in a world of one")
{
  Cuda const exec;
  ncclUniqueId id{};
  ncclComm_t comm = nullptr;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  REQUIRE(ncclCommInitRank(&comm, 1, id, 0) == ncclSuccess);
  try {
    NcclDeviceCommunicatorRef const one(comm);
    exchange(exec, one, 1000, 10);
    auto const window = one.window(exec, 5000, {.channels = 2});
    std::vector<unsigned char> bytes(5000, 1);
    exec.copy_to_host(bytes.data(), window.local(), bytes.size());
    CHECK(bytes == std::vector<unsigned char>(5000, 0));
    CHECK_THROWS_AS(window.signal(exec, 2), ValueError);
    exchange(exec, one, 77, 3);
  } catch (CommunicationError const& e) {  // not every machine lets NCCL have it
    REQUIRE(std::string_view(e.what()).find("symmetric memory") != std::string_view::npos);
    MESSAGE("not run, as NCCL says: ", std::string(e.what()));
  }
  CHECK(ncclCommDestroy(comm) == ncclSuccess);
}

TEST_CASE("rank of windows" * doctest::skip())
{
  int const rank = number_from(rank_variable), size = number_from(size_variable);
  REQUIRE(rank >= 0);
  use_gpu_of_process(rank);
  Cuda const exec;
  NcclCommunicator const comm(shared_id(rank), rank, size, {.deadline = std::chrono::seconds(60)});
  exchange(exec, comm, 1001, 8);
  exchange(exec, NcclCommunicatorRef(comm.handle(), {.deadline = std::chrono::seconds(60)}), 9, 2);
  {
    // One that differs is refused on every rank, with its number; then all go on.
    std::size_t const bytes = rank == size - 1 ? 80 : 64;
    std::string text;
    try {
      (void)comm.window(exec, bytes);
    } catch (CommunicationError const& e) {
      CHECK(e.rank == size - 1);
      text = e.what();
    }
    CHECK(text.find("bytes of rank " + std::to_string(size - 1) + " is 80, must be 64") !=
          std::string::npos);
  }
  auto const a = comm.window(exec, WindowRounds::bytes(size, 20));
  auto const b = comm.window(exec, WindowRounds::bytes(size, 30));
  WindowRounds in_a(exec, a, 20), in_b(exec, b, 30);
  for (int round = 0; round < 2; ++round) {
    in_a.run();
    in_b.run();
  }
  CHECK(in_a.mistakes() + in_b.mistakes() == 0);
}

TEST_CASE("windows of two, three and four processes")
{
  for (int const P : {2, 3, 4}) {
    CAPTURE(P);
    CHECK(run_processes(P, "rank of windows") == all_well(P));
  }
}

TEST_CASE("rank of windows of the device API" * doctest::skip())
{
  int const rank = number_from(rank_variable), size = number_from(size_variable);
  REQUIRE(rank >= 0);
  use_gpu_of_process(rank);
  Cuda const exec;
  NcclDeviceCommunicator const comm(
      shared_id(rank), rank, size, {.deadline = std::chrono::seconds(60)});
  try {
    exchange(exec, comm, 1001, 20);
    exchange(exec, comm, 1 << 18, 3);
  } catch (CommunicationError const& e) {
    REQUIRE(std::string_view(e.what()).find("symmetric memory") != std::string_view::npos);
    MESSAGE("not run, as NCCL says: ", std::string(e.what()));
  }
}

TEST_CASE("windows of the device API: processes with a GPU each")
{
  int const P = std::min(gpus(), 4);
  if (P < 2) {
    MESSAGE("skipped: one GPU");
    return;
  }
  CHECK(run_processes(P, "rank of windows of the device API") == all_well(P));
}

TEST_CASE("rank of windows of which one is silent" * doctest::skip())
{
  int const rank = number_from(rank_variable), size = number_from(size_variable);
  REQUIRE(rank >= 0);
  use_gpu_of_process(rank);
  Cuda const exec;
  std::vector<int> missing;
  try {
    NcclCommunicator const comm(shared_id(rank), rank, size, some_seconds);
    auto const window = comm.window(exec, 64, {.deadline = std::chrono::seconds(2)});
    window.signal(exec, 5);
    window.wait(exec, 5);
    exec.synchronize();
    window.check();
    if (rank == 1) {  // lives on while the others wait
      std::this_thread::sleep_for(std::chrono::seconds(6));
      throw std::runtime_error("leaves without its peers");
    }
    auto const start = Clock::now();
    window.signal(exec, 5);
    window.wait(exec, 5);
    exec.synchronize();
    CHECK(Clock::now() - start < std::chrono::seconds(5));
    window.check();
  } catch (TimeoutError const& e) {
    missing = e.missing;
    CHECK(e.sequence == 2);
  } catch (std::runtime_error const&) {
    CHECK(rank == 1);
  }
  if (rank != 1) { CHECK(missing == std::vector<int>{1}); }
}

TEST_CASE("a process that does not signal is named")
{
  CHECK(run_processes(3, "rank of windows of which one is silent") == all_well(3));
}

TEST_CASE("rank of windows of which one is killed" * doctest::skip())
{
  int const rank = number_from(rank_variable), size = number_from(size_variable);
  REQUIRE(rank >= 0);
  use_gpu_of_process(rank);
  Cuda const exec;
  bool ended       = false;
  auto const start = Clock::now();
  try {
    NcclCommunicator const comm(shared_id(rank), rank, size, some_seconds);
    auto const window = comm.window(exec, WindowRounds::bytes(size, 100));
    WindowRounds mine(exec, window, 100);
    mine.run();
    exec.synchronize();
    if (rank == size - 1) { (void)kill(getpid(), SIGKILL); }
    mine.run();  // into its memory too
    exec.synchronize();
    window.check();
  } catch (CommunicationError const&) {  // a timeout, or what NCCL has seen
    ended = true;
  }
  CHECK(ended);
  CHECK(Clock::now() - start < std::chrono::seconds(100));
}

TEST_CASE("a process that is killed ends the others' waits")
{
  CHECK(run_processes(2, "rank of windows of which one is killed") == std::vector<int>{0, -1});
}
