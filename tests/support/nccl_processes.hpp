#pragma once
// Ranks that are processes with NCCL between them: rank r has GPU r % GPUs. Where some share one,
// each says that it is on a host of its own (NCCL_HOSTID), as NCCL takes such ranks only then.
#include <moe/comm/nccl.cuh>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/rank_seats.hpp"

namespace moe::test {

using Clock = std::chrono::steady_clock;

// -- a world of processes: this program once more for each rank, with what it is told by these --

inline char const* const rank_variable   = "MOE_NCCL_TEST_RANK";
inline char const* const size_variable   = "MOE_NCCL_TEST_SIZE";
inline char const* const folder_variable = "MOE_NCCL_TEST_FOLDER";

inline int number_from(char const* variable)
{
  char const* const text = std::getenv(variable);
  return text != nullptr ? std::atoi(text) : -1;
}

// Before anything is made on it.
inline void use_gpu_of_process(int rank)
{
  MOE_CUDA_TRY(cudaSetDevice(rank % gpus()));
}

// Rank 0's id, through a file that appears whole.
inline ncclUniqueId shared_id(int rank)
{
  std::string const file = std::string(std::getenv(folder_variable)) + "/id";
  ncclUniqueId id{};
  if (rank == 0) {
    id = NcclCommunicator::make_id();
    std::ofstream(file + ".part", std::ios::binary).write(reinterpret_cast<char*>(&id), sizeof id);
    std::filesystem::rename(file + ".part", file);
    return id;
  }
  auto const start = Clock::now();
  while (!std::filesystem::exists(file)) {
    REQUIRE(Clock::now() - start < std::chrono::seconds(60));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::ifstream in(file, std::ios::binary);
  in.read(reinterpret_cast<char*>(&id), sizeof id);
  REQUIRE(in.good());
  return id;
}

// What this process is in the world, by those variables.
struct ProcessRank {
  explicit ProcessRank(NcclOptions const& options) : comm{made(rank, size, options)} {}

  int rank = number_from(rank_variable), size = number_from(size_variable);
  Cuda exec{on_gpu_of(rank)};
  NcclCommunicator comm;

 private:
  static Cuda on_gpu_of(int rank)
  {
    REQUIRE(rank >= 0);
    use_gpu_of_process(rank);
    return Cuda();
  }
  static NcclCommunicator made(int rank, int size, NcclOptions const& options)
  {
    return {shared_id(rank), rank, size, options};
  }
};

// The end of a rank that was killed, and of one that stopped itself (and is killed when the others
// have ended).
inline constexpr int killed = -1, stopped = -2;

// The test case `name` on each of P processes, at most two minutes -> exit codes (P), or the above.
inline std::vector<int> run_processes(int P, std::string const& name)
{
  std::string folder = (std::filesystem::temp_directory_path() / "moe_nccl_XXXXXX").string();
  REQUIRE(mkdtemp(folder.data()) != nullptr);
  std::string const filter = "--test-case=" + name;
  std::vector<pid_t> ranks;
  for (int r = 0; r < P; ++r) {
    std::vector<std::string> variables{std::string(rank_variable) + "=" + std::to_string(r),
                                       std::string(size_variable) + "=" + std::to_string(P),
                                       std::string(folder_variable) + "=" + folder,
                                       "NCCL_SOCKET_IFNAME=lo"};
    if (P > gpus()) { variables.push_back("NCCL_HOSTID=moe_rank_" + std::to_string(r)); }
    std::vector<char*> environment;
    for (auto& v : variables) {
      environment.push_back(v.data());
    }
    for (char** v = environ; *v != nullptr; ++v) {
      std::string const text = *v;
      if (text.rfind("NCCL_HOSTID=", 0) != 0 && text.rfind("NCCL_SOCKET_IFNAME=", 0) != 0) {
        environment.push_back(*v);
      }
    }
    environment.push_back(nullptr);
    std::vector<std::string> words{"nccl_rank", filter, "--no-skip"};
    char* const arguments[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
    pid_t rank              = 0;
    REQUIRE(posix_spawn(&rank, "/proc/self/exe", nullptr, nullptr, arguments, environment.data()) ==
            0);
    ranks.push_back(rank);
  }
  std::vector<int> ends;
  auto const start = Clock::now();
  for (pid_t const rank : ranks) {
    int status = 0;
    pid_t done = 0;
    while ((done = waitpid(rank, &status, WNOHANG | WUNTRACED)) == 0 &&
           Clock::now() - start < std::chrono::minutes(2)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    if (done == 0) {
      (void)kill(rank, SIGKILL);
      (void)waitpid(rank, &status, 0);
    }
    ends.push_back(done != rank         ? killed
                   : WIFSTOPPED(status) ? stopped
                   : WIFEXITED(status)  ? WEXITSTATUS(status)
                                        : killed);
  }
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    if (ends[r] != stopped) { continue; }
    (void)kill(ranks[r], SIGKILL);  // ends a stopped process as well
    (void)kill(ranks[r], SIGCONT);
    (void)waitpid(ranks[r], nullptr, 0);
  }
  std::filesystem::remove_all(folder);
  return ends;
}

}  // namespace moe::test
