#pragma once
// What the mock of NCCL keeps: its handles, the worlds they are of, and what was handed in.
#include <moe/comm/nccl_api.hpp>

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

namespace moe::test {

enum class NcclCall {
  none,
  version,
  get_unique_id,
  init_rank,
  split,
  async_error,
  user_rank,
  count,
  finalize,
  destroy,
  abort,
  all_reduce,
  all_gather,
  reduce_scatter,
  send,
  recv,
  group_start,
  group_end
};
enum class FaultKind { at_once, later, never_done };

// A communicator that is being made, or a call that goes on: done() is asked under the lock.
struct MockPending {
  NcclCall call = NcclCall::none;
  std::function<bool()> done;
};

struct MockWorld;
struct MockComm {
  std::shared_ptr<MockWorld> world;
  int rank = 0;
  std::deque<MockPending> pending;
  std::size_t collectives = 0;
  NcclCall failing        = NcclCall::none;  // later or never: the call that this comes from
  int polls               = 0;
  int reset               = 0;  // of which state it is
};

struct MockPost {
  NcclCall call               = NcclCall::none;
  std::size_t count           = 0;
  NcclType type               = NcclType::uint8;
  std::vector<std::byte> data = {};
  int color = 0, key = 0;
};
struct MockWorld {
  explicit MockWorld(int n) : size{n}, posts(static_cast<std::size_t>(n)) {}
  int size;
  int arrived = 0;
  std::vector<std::deque<MockPost>> posts;                                 // (P)
  std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> sent;  // from, to
  std::map<std::tuple<std::size_t, int>, std::shared_ptr<MockWorld>> groups;
  int mismatches = 0;  // collectives or counts that differ between ranks
};

}  // namespace moe::test
