#pragma once
// What SimulatedCommunicator counts, and how it sums.
#include <concepts>
#include <cstdint>

#include <moe/core/element.hpp>
#include <moe/core/team.hpp>
#include <moe/core/view.hpp>

namespace moe {

// What one rank has sent, and how long its collectives would have taken.
struct SimulatedTraffic {
  std::uint64_t collectives      = 0;  // groups made count too
  std::uint64_t in_host_messages = 0, across_hosts_messages = 0;
  std::uint64_t in_host_bytes = 0, across_hosts_bytes = 0;
  double seconds = 0;
};

namespace detail {

// x[i] *= ranks, integers wrapping around. Rows of 1,024 elements.
template <class T, class ExecT>
struct TimesRanks {
  static constexpr index_t row = 1024;
  View<T, 1, ExecT> x;
  int ranks;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t r) const
  {
    index_t const end = (r + 1) * row < x.extent(0) ? (r + 1) * row : x.extent(0);
    for (index_t i = r * row + team.lane(); i < end; i += team.size()) {
      if constexpr (std::integral<T>) {
        x(i) = static_cast<T>(static_cast<std::uint64_t>(x(i)) * static_cast<std::uint64_t>(ranks));
      } else {
        x(i) = static_cast<T>(static_cast<accumulator_t<T>>(x(i)) *
                              static_cast<accumulator_t<T>>(ranks));
      }
    }
  }
};

}  // namespace detail
}  // namespace moe
