#pragma once
// A run on a device, from its first line to its last.
#include "checkpoint.hpp"
#include "options.hpp"
#include "ranks.hpp"

namespace train_lm {

// A rank's part of it; all of its ranks call this. `from`: the checkpoint to go on from, or null.
// 0, or 1 where the default run fell short of what it is known to reach.
template <class ExecT>
[[nodiscard]] int run_rank(ExecT const& exec,
                           Ranks<ExecT> const& ranks,
                           Options const& options,
                           Checkpoint const* from);

// One rank; the second if nvcc was there.
[[nodiscard]] int run_on_host(Options const& options, Checkpoint const* from);
[[nodiscard]] int run_on_cuda(Options const& options, Checkpoint const* from);
// Ranks that are threads of this process (run_threads.cpp).
[[nodiscard]] int run_threads_on_host(Options const& options, Checkpoint const* from);
[[nodiscard]] int run_threads_on_cuda(Options const& options, Checkpoint const* from);
// This process is one of several with a GPU each and NCCL between them (run_processes.cu).
[[nodiscard]] int run_process_on_cuda(Options const& options, Checkpoint const* from);

// Where nobody says: the library's own on the host, for their bits; on a GPU, where own dense
// products are much slower, only where these bits are asked for.
[[nodiscard]] inline moe::Products products_of(Options const& o)
{
  if (o.products == "blas") { return moe::Products::blas; }
  bool const own = o.products == "own" || o.device == "host" || o.reproducible;
  return own ? moe::Products::own : moe::Products::automatic;
}

}  // namespace train_lm
