// Ranks that are threads of this process: --ranks.
// On every space.
#include <moe/comm/thread_world.hpp>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "ranks_over.hpp"
#include "run.hpp"
#include "space.hpp"

namespace train_lm {
namespace {

#if defined(__CUDACC__)

// A GPU for each rank, where there are as many.
int devices_for(int ranks)
{
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess) { devices = 0; }  // moe::Cuda says what is wrong
  if (devices >= ranks) {
    std::printf("%d ranks, a GPU each\n", ranks);
    return ranks;
  }
  std::printf("%d ranks share GPU 0, as there %s\n",
              ranks,
              devices == 1 ? "is no other" : "are not as many GPUs");
  return 1;
}

#else

// Its part of the threads.
int threads_of_rank(Options const& o)
{
  auto const all =
      o.threads > 0 ? o.threads : static_cast<std::int64_t>(std::thread::hardware_concurrency());
  return static_cast<int>(std::max<std::int64_t>(1, all / o.ranks));
}

#endif

// make(rank): the space of a rank, on its thread.
template <class MakeT>
int run_threads(Options const& o, Checkpoint const* from, MakeT const& make)
{
  int result = 0;
  moe::ThreadWorld(static_cast<int>(o.ranks)).run([&](moe::ThreadCommunicator const& comm) {
    auto const exec = make(comm.rank());
    int const of_rank =
        run_rank(exec, RanksOver<Space, moe::ThreadCommunicator>(comm, o.reproducible), o, from);
    if (comm.rank() == 0) { result = of_rank; }
  });
  return result;
}

}  // namespace

#if defined(__CUDACC__)
int run_threads_on_cuda(Options const& o, Checkpoint const* from)
{
  int const devices = devices_for(static_cast<int>(o.ranks));
  return run_threads(o, from, [&](int rank) {
    MOE_CUDA_TRY(cudaSetDevice(rank % devices));
    return moe::Cuda(nullptr, {.products = products_of(o)});  // on a stream of its own
  });
}
#else
int run_threads_on_host(Options const& o, Checkpoint const* from)
{
  return run_threads(o, from, [&](int) {
    return moe::Host({.threads = threads_of_rank(o), .products = products_of(o)});
  });
}
#endif

}  // namespace train_lm
