#pragma once
// What a window's wait tells when peers have not raised their flags.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <moe/comm/thread_state.hpp>

namespace moe::detail {

// `missing`: at least one rank.
[[gnu::noinline, gnu::cold]] inline ThreadFailure window_timeout(std::vector<int> missing,
                                                                 int channel,
                                                                 std::uint64_t count,
                                                                 std::chrono::milliseconds deadline)
{
  std::sort(missing.begin(), missing.end());
  std::string names = missing.size() == 1 ? "flag of rank" : "flags of ranks";
  for (int const r : missing) {
    names += joined({" ", text_of(r)});
  }
  int const first = missing.at(0);
  return {"moe::Window::wait",
          joined({names, " on channel ", text_of(channel), " (signal ", text_of(count), ")"}),
          joined({"missing after ", text_of(deadline.count()), " ms"}),
          "raised within the deadline",
          first,
          count,
          std::move(missing)};
}

}  // namespace moe::detail
