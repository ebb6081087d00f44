#pragma once
// Options of AllToAllDispatcher.
#include <moe/core/error.hpp>

namespace moe {

struct AllToAllOptions {
  // Every call first compares what the ranks were called with (a small collective, for which the
  // host waits); off where the caller knows them to be alike.
  bool compare_calls = true;
  // A batch goes in so many chunks of each rank's experts, and what one chunk needs travels while
  // the experts of another work. The same on all ranks; bits do not depend on it.
  int chunks = 1;
  // In several chunks, GPU multiprocessors that the experts' products leave to what moves rows
  // beside them: as many as NCCL's kernels or one-sided stores are to have; none where copy engines
  // move rows.
  int spare_multiprocessors = 0;

  void check(Check const& check) const
  {
    check.at_least("chunks", chunks, 1);
    check.at_most("chunks", chunks, "the most that overlap is good for", 1024);
    check.at_least("spare_multiprocessors", spare_multiprocessors, 0);
  }
};

}  // namespace moe
