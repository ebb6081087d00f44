#pragma once
// Two-level groups: the ranks of my host, and the ranks of my place on all hosts.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <unistd.h>

#include <moe/comm/communicator.hpp>
#include <moe/core/tensor.hpp>
#include <moe/layer/compare_calls.hpp>

namespace moe {

// A host's name in 64 bytes, so that it can travel: the start of the text, then a hash of all of
// it.
struct HostName {
  std::array<index_t, 8> words{};
  friend bool operator==(HostName const&, HostName const&) = default;
};

// Not inlined: g++ 12 would warn of a copy past the short string that a caller made.
[[gnu::noinline]] inline HostName host_name(std::string_view text)
{
  HostName name;
  std::memcpy(name.words.data(), text.data(), std::min(text.size(), 7 * sizeof(index_t)));
  name.words[7] = detail::text_number(text);
  return name;
}

// This machine's, with the id of its boot, as machines' names may repeat ("localhost") and those of
// containers may differ on one machine: where the system tells the id, it alone decides.
inline HostName this_host()
{
  char text[256] = {};
  if (std::FILE* const file = std::fopen("/proc/sys/kernel/random/boot_id", "r")) {
    std::size_t const n = std::fread(text, 1, sizeof text - 1, file);
    std::fclose(file);
    if (n > 0) { return host_name({text, n}); }
  }
  if (gethostname(text, sizeof text - 1) != 0) { return host_name("unknown"); }
  return host_name(text);
}

// Where the ranks of a communicator are. Hosts are numbered in the order of their first ranks,
// the ranks of a host in theirs; a host's ranks need not follow one another.
struct HostGroups {
  std::vector<int> host, local_index;  // (P)
  std::vector<int> ranks_of_host;      // (hosts)
  bool even = true;                    // every host has as many ranks

  [[nodiscard]] int hosts() const { return static_cast<int>(ranks_of_host.size()); }
};

// names (P)
inline HostGroups host_groups(std::span<HostName const> names)
{
  HostGroups groups;
  std::vector<HostName> seen;
  for (HostName const& name : names) {
    auto const h =
        static_cast<std::size_t>(std::find(seen.begin(), seen.end(), name) - seen.begin());
    if (h == seen.size()) {
      seen.push_back(name);
      groups.ranks_of_host.push_back(0);
    }
    groups.host.push_back(static_cast<int>(h));
    groups.local_index.push_back(groups.ranks_of_host[h]++);
  }
  for (int const n : groups.ranks_of_host) {
    groups.even = groups.even && n == groups.ranks_of_host[0];
  }
  return groups;
}

// Where not even, `across` is of those hosts that have the local index.
template <class CommT>
struct TwoLevel {
  CommT in_host;  // ranked by local index
  CommT across;   // ranked by host
  HostGroups groups;
  int host, local_index;  // of this rank

  [[nodiscard]] bool even() const { return groups.even; }
};

namespace detail {

template <HasSplit CommT>
TwoLevel<CommT> split_by_host(CommT const& comm, HostGroups groups)
{
  auto const me   = static_cast<std::size_t>(comm.rank());
  int const host  = groups.host[me];
  int const local = groups.local_index[me];
  CommT in_host   = comm.split(host, local);
  CommT across    = comm.split(local, host);
  return {std::move(in_host), std::move(across), std::move(groups), host, local};
}

}  // namespace detail

// By the name that each rank gives. Collective, as all of these; waits for the device.
template <class ExecT, HasSplit CommT>
  requires HasAllGather<CommT, ExecT, index_t>
TwoLevel<CommT> two_level(ExecT const& exec, CommT const& comm, HostName const& name)
{
  constexpr index_t words = 8;
  index_t const P         = comm.size();
  std::vector<HostName> names(static_cast<std::size_t>(P));
  Tensor<index_t, 1, ExecT> send(exec, words), receive(exec, words * P);
  exec.copy_from_host(send.view().data_handle(), name.words.data(), sizeof name.words);
  comm.all_gather(exec, send.const_view(), receive.view());
  detail::wait_for_ranks(exec, comm);
  exec.copy_to_host(
      names.data(), receive.const_view().data_handle(), names.size() * sizeof(HostName));
  return detail::split_by_host(comm, host_groups(names));
}

// By the machines that the ranks run on.
template <class ExecT, HasSplit CommT>
  requires HasAllGather<CommT, ExecT, index_t>
TwoLevel<CommT> two_level(ExecT const& exec, CommT const& comm)
{
  return two_level(exec, comm, this_host());
}

// By hand: ranks 0 to ranks_per_host - 1 are the first host's, and so on. The same number on every
// rank, and one that divides P.
template <class ExecT, HasSplit CommT>
  requires HasAllGather<CommT, ExecT, index_t>
TwoLevel<CommT> two_level(ExecT const& exec, CommT const& comm, int ranks_per_host)
{
  constexpr char const* operation = "moe::two_level";
  int const P                     = comm.size();
  // Before what one rank refuses, so that all of them do.
  detail::compare_calls(exec, comm, operation, {{"ranks per host", ranks_per_host}});
  Check const check{operation, comm.rank()};
  check.at_least("ranks per host", ranks_per_host, 1);
  if (P % ranks_per_host != 0) {
    check.fail<ValueError>("ranks per host",
                           ranks_per_host,
                           detail::joined({"a divisor of the ranks (", detail::text_of(P), ")"}));
  }
  HostGroups groups;
  for (int r = 0; r < P; ++r) {
    groups.host.push_back(r / ranks_per_host);
    groups.local_index.push_back(r % ranks_per_host);
  }
  groups.ranks_of_host.assign(static_cast<std::size_t>(P / ranks_per_host), ranks_per_host);
  return detail::split_by_host(comm, std::move(groups));
}

}  // namespace moe
