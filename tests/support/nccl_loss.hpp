#pragma once
// A world of processes with NCCL that loses one of them between two steps.
#include <string>

#include "support/nccl_processes.hpp"

namespace moe::test {

inline constexpr std::chrono::seconds loss_deadline{20};
inline NcclOptions const loss_options{.deadline       = loss_deadline,
                                      .abort_deadline = std::chrono::seconds(20)};

// The text of the CommunicationError that f ends with, or nothing.
template <class F>
std::string communication_error_of(F const& f)
{
  try {
    f();
  } catch (CommunicationError const& e) {
    return e.what();
  }
  return "";
}

// Every process does step(), which waits for its results, twice. The last ends by `signal` between
// the two; the others' second ends with an error, which is told again, and their streams are free.
template <class Step>
void check_loss_of_last(ProcessRank const& me, int signal, Step const& step)
{
  step();
  me.comm.wait(me.exec);
  if (me.rank == me.size - 1) {
    std::this_thread::sleep_for(std::chrono::seconds(1));  // the others have their results
    (void)kill(getpid(), signal);
  }
  auto const start        = Clock::now();
  std::string const first = communication_error_of(step);
  std::string const again = communication_error_of([&] { me.comm.check(); });
  CHECK(Clock::now() - start < std::chrono::seconds(45));
  CHECK(first.find("moe::NcclCommunicator::") == 0);
  CHECK(first.find("(sequence ") != std::string::npos);
  CHECK(again == first);
  CHECK(first.find("ncclCommAbort") == std::string::npos);
  // Nobody tells NCCL of a process that stands still: that is the deadline's.
  if (signal == SIGSTOP) { CHECK(first.find("deadline (20000 ms)") != std::string::npos); }
  me.exec.synchronize();  // the abort has ended what waited for the peer
}

// How the two processes of `killed_case` and of `stopped_case` end, where the last is lost.
inline void check_ends_of_two(std::string const& killed_case, std::string const& stopped_case)
{
  CHECK(run_processes(2, killed_case) == std::vector<int>{0, killed});
  CHECK(run_processes(2, stopped_case) == std::vector<int>{0, stopped});
}

}  // namespace moe::test
