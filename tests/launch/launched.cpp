// One process of a launcher's start. It gets 128 bytes of rank 0's, as many as an ncclUniqueId has,
// and says in one line who it is and what came. check.cmake starts it and reads the lines.
#include <moe/comm/bootstrap.hpp>

#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

using moe::bootstrap::World;

constexpr std::chrono::seconds deadline(30);

// Rank 0's file must stay until all have read it. Here files say so; elsewhere the first
// collective.
void meet(World const& world)
{
  if (world.file.empty() || world.size == 1) { return; }
  auto const met = [&](int rank) { return world.file + ".met_" + std::to_string(rank); };
  if (world.rank != 0) {
    std::ofstream(met(world.rank)) << world.rank;
    return;
  }
  auto const end = std::chrono::steady_clock::now() + deadline;
  for (int rank = 1; rank < world.size; ++rank) {
    while (std::remove(met(rank).c_str()) != 0) {
      if (std::chrono::steady_clock::now() > end) {
        throw std::runtime_error("rank " + std::to_string(rank) + " did not come");
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
}

}  // namespace

int main()
{
  try {
    World const world = moe::bootstrap::from_env();
    std::array<unsigned char, 128> bytes{};
    if (world.rank == 0) {
      std::random_device random;
      for (unsigned char& b : bytes) {
        b = static_cast<unsigned char>(random());
      }
    }
    auto const file = moe::bootstrap::share(
        world, std::as_writable_bytes(std::span(bytes)), {.deadline = deadline});
    meet(world);
    unsigned sum = 0;
    for (unsigned char const b : bytes) {
      sum = 31 * sum + b;
    }
    std::printf("%s: rank %d of %d, on the host %d of %d, sum %u\n",
                world.launcher.c_str(),
                world.rank,
                world.size,
                world.local_rank,
                world.local_size,
                sum);
    return 0;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
