// Ranks that are processes: --processes, where NCCL was found.
#include "processes.hpp"

#include <cstdio>

#include "ranks_over.hpp"
#include "run.hpp"

namespace train_lm {

int run_process_on_cuda(Options const& o, Checkpoint const* from)
{
  auto const world = moe::bootstrap::from_env();
  check_ranks(o, world.size);
  choose_gpu(world);
  moe::Cuda const exec(nullptr, {.products = products_of(o)});
  RanksOver<moe::Cuda, moe::NcclCommunicator> const ranks(connect(world), o.reproducible);
  if (world.rank == 0) {
    std::printf("%d processes, started by %s\n", world.size, world.launcher.c_str());
  }
  return run_rank(exec, ranks, o, from);
}

}  // namespace train_lm
