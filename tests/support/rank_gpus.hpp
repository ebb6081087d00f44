#pragma once
// Which GPU a rank that is a thread has. A program that includes this runs all its cases on one GPU
// and, where there are several, once more with a GPU for each rank of worlds that are small enough:
// main.cu does, so that a case says nothing of it but cuda_of(comm).
#include <moe/comm/thread_communicator.hpp>
#include <moe/exec/cuda.cuh>

#include "support/rank_seats.hpp"

namespace moe::test {

inline bool const rank_seats_are_used = (rank_seats.used = true);

[[nodiscard]] inline int gpu_of(int rank, int ranks)
{
  return rank_seats.spread && ranks <= gpus() ? rank : 0;
}
// This thread's GPU from here on, before anything is made on it. Rank 0's is GPU 0, so that the
// thread that runs a world, which is its rank 0, has it again afterwards.
inline void use_gpu_of(int rank, int ranks)
{
  MOE_CUDA_TRY(cudaSetDevice(gpu_of(rank, ranks)));
}
// A handle on this rank's GPU, by the communicator of the whole world.
[[nodiscard]] inline Cuda cuda_of(ThreadCommunicator const& world, CudaOptions const& options = {})
{
  use_gpu_of(world.rank(), world.size());
  return Cuda(nullptr, options);
}

}  // namespace moe::test
