#pragma once
// Ranks that share a layer must call it alike. What each was called with travels before anything
// else does, so that a rank that runs another configuration, or another pass, is an error with its
// name on every rank and not a wrong number or a wait without end.
#include <cstdint>
#include <string_view>
#include <vector>

#include <moe/comm/communication_error.hpp>
#include <moe/comm/communicator.hpp>
#include <moe/core/tensor.hpp>

namespace moe::detail {

struct CallField {
  char const* name;
  index_t value;
};

constexpr index_t text_number(std::string_view text)
{
  std::uint64_t h = 0xcbf29ce484222325u;  // FNV-1a
  for (char const c : text) {
    h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return static_cast<index_t>(h >> 1);
}

// The same for the same type in one program, and nearly surely another for another type.
template <class X>
constexpr index_t type_number()
{
  return text_number(__PRETTY_FUNCTION__);
}

// `all` (P, fields): the first rank that differs from rank 0 is the one at fault, on every rank.
inline void check_alike(char const* operation,
                        int ranks,
                        std::vector<CallField> const& fields,
                        std::vector<index_t> const& all)
{
  std::size_t const n = fields.size();
  for (int r = 1; r < ranks; ++r) {
    for (std::size_t f = 0; f < n; ++f) {
      index_t const theirs = all[static_cast<std::size_t>(r) * n + f];
      if (theirs != all[f]) {
        throw CommunicationError(operation,
                                 fields[f].name,
                                 text_of(theirs),
                                 joined({"what rank 0 was called with (", text_of(all[f]), ")"}),
                                 r,
                                 0);
      }
    }
  }
}

// Collective; waits for the device.
template <class ExecT, class CommT>
void compare_calls(ExecT const& exec,
                   CommT const& comm,
                   char const* operation,
                   std::vector<CallField> const& fields)
{
  std::vector<index_t> mine;
  for (CallField const& f : fields) {
    mine.push_back(f.value);
  }
  auto const n = static_cast<index_t>(mine.size());
  Tensor<index_t, 1, ExecT> send(exec, n), receive(exec, n * comm.size());
  std::vector<index_t> all(static_cast<std::size_t>(n * comm.size()));
  exec.copy_from_host(send.view().data_handle(), mine.data(), mine.size() * sizeof(index_t));
  comm.all_gather(exec, send.const_view(), receive.view());
  wait_for_ranks(exec, comm);
  exec.copy_to_host(all.data(), receive.view().data_handle(), all.size() * sizeof(index_t));
  check_alike(operation, comm.size(), fields, all);
}

}  // namespace moe::detail
