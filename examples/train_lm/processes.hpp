#pragma once
// Processes that mpirun, torchrun or srun started, a GPU each, with NCCL between them. No MPI.
#include <chrono>
#include <span>

#include <moe/comm/bootstrap.hpp>
#include <moe/comm/nccl.cuh>

namespace train_lm {

// [connect]
// One GPU per process of this host; more processes than GPUs share them, if NCCL_HOSTID lets them.
inline void choose_gpu(moe::bootstrap::World const& world)
{
  int gpus = 0;
  MOE_CUDA_TRY(cudaGetDeviceCount(&gpus));
  int const local = world.local_rank >= 0 ? world.local_rank : world.rank;  // not said: hosts alike
  MOE_CUDA_TRY(cudaSetDevice(local % gpus));
}

// Rank 0 makes NCCL's id, and a shared file or torchrun's address brings it to the others.
inline moe::NcclCommunicator connect(moe::bootstrap::World const& world)
{
  ncclUniqueId id{};
  if (world.rank == 0 && world.size > 1) { id = moe::NcclCommunicator::make_id(); }
  auto const file = moe::bootstrap::share(world, std::as_writable_bytes(std::span(&id, 1)));
  return {id, world.rank, world.size, {.deadline = std::chrono::minutes(2)}};
}  // the file goes when all have met
// [/connect]

}  // namespace train_lm
