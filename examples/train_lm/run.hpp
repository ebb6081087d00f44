#pragma once
// A run on a device, from its first line to its last.
#include "checkpoint.hpp"
#include "options.hpp"

namespace train_lm {

// `from`: the checkpoint to go on from, or null. 0, or 1 where the default run fell short of what
// it is known to reach.
[[nodiscard]] int run_on_host(Options const& options, Checkpoint const* from);
[[nodiscard]] int run_on_cuda(Options const& options, Checkpoint const* from);  // if nvcc was there

}  // namespace train_lm
