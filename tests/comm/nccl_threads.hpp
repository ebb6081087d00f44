#pragma once
// Ranks on threads over the mock of NCCL, and how each ended.
#include "comm/nccl_mock.hpp"
#include "support/rank_ends.hpp"

namespace moe::test {

inline Host nccl_host()
{
  return Host{{.threads = 1}};
}

// f(rank) on P threads -> how each ended.
template <class F>
std::vector<RankEnd> on_threads(int P, F const& f)
{
  std::vector<RankEnd> ends(static_cast<std::size_t>(P));
  std::vector<std::thread> threads;
  for (int r = 0; r < P; ++r) {
    threads.emplace_back([&, r] {
      MockNccl::thread_rank() = r;
      try {
        f(r);
      } catch (...) {
        ends[static_cast<std::size_t>(r)] = end_of(std::current_exception());
      }
    });
  }
  for (auto& t : threads) {
    t.join();
  }
  return ends;
}

// f(communicator) on each rank of a world that works.
template <class F>
void on_world(int P, F const& f)
{
  MockNccl::reset();
  int const id = MockCommunicator::make_id();
  NcclOptions const options{.deadline       = std::chrono::seconds(60),
                            .abort_deadline = std::chrono::seconds(60)};
  for (auto const& end : on_threads(P, [&](int r) { f(MockCommunicator(id, r, P, options)); })) {
    CHECK(end.text == "");
  }
  CHECK(MockNccl::mismatches() == 0);
  CHECK(MockNccl::calls_of(NcclCall::abort) == 0);
}

}  // namespace moe::test
