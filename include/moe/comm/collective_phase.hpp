#pragma once
// A collective as a profiler sees it: its phase, and the bytes that this rank sends to the others.
#include <cstddef>

#include <moe/comm/collective_check.hpp>
#include <moe/exec/phase.hpp>

namespace moe::detail {

template <class ExecT>
[[nodiscard]] auto collective_phase(ExecT const& exec, std::size_t bytes_sent)
{
  exec.count_sent(bytes_sent);
  return exec.phase(Phase::communication);
}

// The own part stays here. A sum is counted as reduce-scatter and all-gather of parts of n / P, as
// bus bandwidth usually is, whatever the communicator does.
inline std::size_t bytes_to_others(std::size_t part_bytes, int ranks)
{
  return part_bytes * static_cast<std::size_t>(ranks - 1);
}
inline std::size_t bytes_of_all_reduce(std::size_t bytes, int ranks)
{
  auto const P = static_cast<std::size_t>(ranks);
  return 2 * bytes_to_others((bytes + P - 1) / P, ranks);
}
inline std::size_t bytes_to_others(RankBlocks const& send, int own, std::size_t element)
{
  std::size_t n = 0;
  for (std::size_t r = 0; r < send.counts.size(); ++r) {
    n += r == static_cast<std::size_t>(own) ? 0 : static_cast<std::size_t>(send.counts[r]);
  }
  return n * element;
}

}  // namespace moe::detail
