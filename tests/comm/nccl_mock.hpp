#pragma once
// NCCL as ranks on threads see it: handles, calls that go on after they returned, data that travels
// when both sides have come; and any call fails, at once, later or never ending, as a test says.
// Compiled by tests alone.
#include <moe/comm/nccl_communicator.hpp>
#include <moe/exec/host.hpp>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "comm/nccl_mock_world.hpp"

namespace moe::test {

struct MockNccl {
  using Comm                      = MockComm*;
  using UniqueId                  = int;
  using Stream                    = int;
  using Result                    = int;  // as NCCL's numbers
  static constexpr Result success = 0, in_progress = 7;

  // -- what tests set before the ranks start, and look at afterwards --

  struct Fault {
    NcclCall call  = NcclCall::none;
    FaultKind kind = FaultKind::at_once;
    Result result  = 6;
    int rank       = -1;  // -1: all
  };
  struct State {
    std::mutex mutex;
    Fault fault;
    bool abort_hangs = false, stream_hangs = false, stream_fails = false;
    bool late_groups = false;  // a split is done some polls before its handle is there
    struct Late {
      Comm* group;
      Comm made;
      int polls;
    };
    std::vector<Late> late;
    int header = 22809, library = 22809;
    int ids = 0, resets = 0;
    std::map<int, std::shared_ptr<MockWorld>> worlds;
    std::vector<std::unique_ptr<MockComm>> comms;  // live on: a call that hung may use one late
    std::map<NcclCall, int> calls;
    std::map<MockComm*, int> aborts, destroys;
    std::atomic<int> hanging{0};
    std::atomic<bool> release{false};
  };
  static State& state()
  {
    static State& s = *new State;  // for threads that outlive main
    return s;
  }
  // A fresh state; calls that hang are let go first.
  static void reset()
  {
    auto& s   = state();
    s.release = true;
    while (s.hanging > 0) {
      std::this_thread::yield();
    }
    std::lock_guard const lock(s.mutex);
    s.release     = false;
    s.fault       = {};
    s.abort_hangs = s.stream_hangs = s.stream_fails = s.late_groups = false;
    s.late.clear();
    s.header = s.library = 22809;
    s.worlds.clear();
    ++s.resets;
    s.calls.clear();
    s.aborts.clear();
    s.destroys.clear();
  }
  static int calls_of(NcclCall call)
  {
    std::lock_guard const lock(state().mutex);
    return state().calls[call];
  }
  static int all_calls()
  {
    std::lock_guard const lock(state().mutex);
    int n = 0;
    for (auto const& [call, times] : state().calls) {
      n += times;
    }
    return n;
  }
  // How often each handle was aborted or destroyed. A call that was given up on may still be
  // coming: waits for `expected` handles.
  static std::map<MockComm*, int> ended(std::map<MockComm*, int> State::* which,
                                        std::size_t expected)
  {
    for (int i = 0;; ++i) {
      {
        std::lock_guard const lock(state().mutex);
        if ((state().*which).size() >= expected || i == 5000) { return state().*which; }
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  static int mismatches()
  {
    std::lock_guard const lock(state().mutex);
    int n = 0;
    for (auto const& [id, world] : state().worlds) {
      n += world->mismatches;
      for (auto const& [pair, queue] : world->sent) {
        n += static_cast<int>(queue.size());  // never received
      }
    }
    return n;
  }

  // -- the Api --

  static char const* text(Result result)
  {
    constexpr char const* texts[] = {"no error",
                                     "unhandled cuda error",
                                     "unhandled system error",
                                     "internal error",
                                     "invalid argument",
                                     "invalid usage",
                                     "remote process exited or there was a network error",
                                     "in progress"};
    return texts[result];
  }
  static char const* last_error(Comm comm) { return comm == nullptr ? nullptr : "the last words"; }
  static int header_version() { return state().header; }
  static Result version(int* v)
  {
    return plain(NcclCall::version, nullptr, [&] { *v = state().library; });
  }
  static Result get_unique_id(UniqueId* id)
  {
    return plain(NcclCall::get_unique_id, nullptr, [&] { *id = ++state().ids; });
  }
  static Result init_rank(Comm* comm, int size, UniqueId id, int rank)
  {
    std::lock_guard const lock(state().mutex);
    if (Result const r = faulty(NcclCall::init_rank, nullptr, rank); r > 0 && r != in_progress) {
      return r;
    }
    auto& world = state().worlds[id];
    if (world == nullptr) { world = std::make_shared<MockWorld>(size); }
    ++world->arrived;
    *comm = make_comm(world, rank);
    return later(*comm, NcclCall::init_rank, [w = world.get()] { return w->arrived == w->size; });
  }
  static Result split(Comm comm, int color, int key, Comm* group)
  {
    MockPost post{.call = NcclCall::split};
    post.color = color;
    post.key   = key;
    return collective(comm, std::move(post), [comm, group](std::size_t k) {
      auto const& world = comm->world;
      auto const& mine  = world->posts[static_cast<std::size_t>(comm->rank)][k];
      int members = 0, before = 0;
      for (int r = 0; r < world->size; ++r) {
        auto const& other = world->posts[static_cast<std::size_t>(r)][k];
        if (other.color != mine.color) { continue; }
        ++members;
        if (std::pair(other.key, r) < std::pair(mine.key, comm->rank)) { ++before; }
      }
      auto& made = world->groups[{k, mine.color}];
      if (made == nullptr) {
        made                           = std::make_shared<MockWorld>(members);
        state().worlds[-++state().ids] = made;
      }
      ++made->arrived;
      Comm const its = make_comm(made, before);
      if (state().late_groups) {
        state().late.push_back({group, its, 4});
      } else {
        *group = its;
      }
    });
  }
  static Result async_error(Comm comm, Result* result)
  {
    std::lock_guard const lock(state().mutex);
    ++state().calls[NcclCall::async_error];
    if (comm == nullptr) { return 4; }  // invalid argument
    for (auto& late : state().late) {
      if (--late.polls == 0) { std::atomic_ref(*late.group).store(late.made); }
    }
    auto const& fault = state().fault;
    if (hit(NcclCall::async_error, comm->rank)) {
      if (fault.kind == FaultKind::at_once) { return fault.result; }
      bool const now = fault.kind == FaultKind::later && ++comm->polls >= 3;
      *result        = now ? fault.result : in_progress;
      return success;
    }
    if (comm->failing != NcclCall::none) {
      bool const now = fault.kind == FaultKind::later && ++comm->polls >= 3;
      *result        = now ? fault.result : in_progress;
      return success;
    }
    while (!comm->pending.empty() && comm->pending.front().done()) {
      comm->pending.pop_front();
    }
    *result = comm->pending.empty() ? success : in_progress;
    return success;
  }
  static Result user_rank(Comm comm, int* rank)
  {
    return plain(NcclCall::user_rank, comm, [&] { *rank = comm->rank; });
  }
  static Result count(Comm comm, int* size)
  {
    return plain(NcclCall::count, comm, [&] { *size = comm->world->size; });
  }
  static Result finalize(Comm comm)
  {
    std::lock_guard const lock(state().mutex);
    if (Result const r = faulty(NcclCall::finalize, comm, comm->rank); r != success) { return r; }
    return later(comm, NcclCall::finalize, [] { return true; });
  }
  static Result destroy(Comm comm)
  {
    bool hangs = false;
    {
      std::lock_guard const lock(state().mutex);
      if (comm->reset != state().resets) { return success; }
      ++state().destroys[comm];
      Result const r = faulty(NcclCall::destroy, nullptr, comm->rank);
      hangs          = r == in_progress;  // it has no other way not to be done
      if (!hangs) { return r; }
    }
    hang();
    return success;
  }
  static Result abort(Comm comm)
  {
    bool hangs = false;
    {
      std::lock_guard const lock(state().mutex);
      if (comm->reset != state().resets) { return success; }
      ++state().aborts[comm];
      hangs          = state().abort_hangs;
      Result const r = faulty(NcclCall::abort, nullptr, comm->rank);
      if (!hangs) { return r; }
    }
    hang();
    return success;
  }

  static Result all_reduce_sum(
      void const* from, void* to, std::size_t n, NcclType type, Comm comm, Stream)
  {
    return collective(comm, post_of(NcclCall::all_reduce, from, n, n, type), [=](std::size_t k) {
      sum(*comm->world, k, 0, to, n, type);
    });
  }
  static Result all_gather(
      void const* from, void* to, std::size_t n, NcclType type, Comm comm, Stream)
  {
    return collective(comm, post_of(NcclCall::all_gather, from, n, n, type), [=](std::size_t k) {
      auto* at = static_cast<std::byte*>(to);
      for (auto const& posts : comm->world->posts) {
        std::memcpy(at, posts[k].data.data(), posts[k].data.size());
        at += posts[k].data.size();
      }
    });
  }
  static Result reduce_scatter_sum(
      void const* from, void* to, std::size_t n, NcclType type, Comm comm, Stream)
  {
    auto const parts = static_cast<std::size_t>(comm->world->size);
    auto const mine  = static_cast<std::size_t>(comm->rank) * n;
    return collective(comm,
                      post_of(NcclCall::reduce_scatter, from, n, n * parts, type),
                      [=](std::size_t k) { sum(*comm->world, k, mine, to, n, type); });
  }
  static Result send(void const* from, std::size_t n, NcclType type, int peer, Comm comm, Stream)
  {
    std::lock_guard const lock(state().mutex);
    if (Result const r = faulty(NcclCall::send, comm, comm->rank); r > 0) {
      return r == in_progress ? success : r;
    }
    auto const* const at = static_cast<std::byte const*>(from);
    group_comm()         = comm;
    comm->world->sent[{comm->rank, peer}].emplace_back(at, at + n * size_of(type));
    return success;
  }
  static Result recv(void* to, std::size_t n, NcclType type, int peer, Comm comm, Stream)
  {
    std::lock_guard const lock(state().mutex);
    if (Result const r = faulty(NcclCall::recv, comm, comm->rank); r > 0) {
      return r == in_progress ? success : r;
    }
    (void)later(comm, NcclCall::recv, [=] {
      auto& queue = comm->world->sent[{peer, comm->rank}];
      if (queue.empty()) { return false; }
      if (queue.front().size() != n * size_of(type)) { ++comm->world->mismatches; }
      std::memcpy(to, queue.front().data(), std::min(queue.front().size(), n * size_of(type)));
      queue.pop_front();
      return true;
    });
    group_comm() = comm;
    return success;
  }
  static Result group_start()
  {
    std::lock_guard const lock(state().mutex);
    group_comm() = nullptr;
    return faulty(NcclCall::group_start, nullptr, thread_rank());
  }
  static Result group_end()
  {
    std::lock_guard const lock(state().mutex);
    Comm const comm = group_comm();
    Result const r  = faulty(NcclCall::group_end, comm, thread_rank());
    if (r > 0) { return r; }
    return comm != nullptr && (comm->failing != NcclCall::none || !comm->pending.empty())
               ? in_progress
               : success;
  }

  static Stream stream_of(Host const&) { return 0; }
  static void refuse_to_wait(Host const&, char const*) {}
  static bool stream_done(Host const&)
  {
    if (state().stream_fails) { throw StateError("the mock", "kernel", "lost", "running"); }
    return !state().stream_hangs;
  }

  // The rank that a thread is, for calls that have no handle.
  static int& thread_rank()
  {
    static thread_local int rank = 0;
    return rank;
  }

 private:
  static Comm& group_comm()
  {
    static thread_local Comm comm = nullptr;
    return comm;
  }
  static void hang()
  {
    ++state().hanging;
    while (!state().release) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    --state().hanging;
  }
  // Those below are called under the lock.

  static bool hit(NcclCall call, int rank)
  {
    auto const& f = state().fault;
    return f.call == call && (f.rank < 0 || f.rank == rank);
  }
  // Counts the call -> an error at once, in_progress with the comm marked, or success.
  static Result faulty(NcclCall call, Comm comm, int rank)
  {
    ++state().calls[call];
    if (!hit(call, rank)) { return success; }
    if (state().fault.kind == FaultKind::at_once) { return state().fault.result; }
    if (comm != nullptr) {
      comm->failing = call;
      group_comm()  = comm;
    }
    return in_progress;
  }
  template <class F>
  static Result plain(NcclCall call, Comm comm, F const& f)
  {
    std::lock_guard const lock(state().mutex);
    Result const r = faulty(call, nullptr, comm == nullptr ? thread_rank() : comm->rank);
    if (r == in_progress && comm != nullptr && state().fault.kind == FaultKind::later &&
        ++comm->polls >= 3) {
      return state().fault.result;
    }
    if (r == success) { f(); }
    return r;
  }
  static Comm make_comm(std::shared_ptr<MockWorld> world, int rank)
  {
    state().comms.push_back(std::make_unique<MockComm>());
    state().comms.back()->world = std::move(world);
    state().comms.back()->rank  = rank;
    state().comms.back()->reset = state().resets;
    return state().comms.back().get();
  }
  static Result later(Comm comm, NcclCall call, std::function<bool()> done)
  {
    if (hit(call, comm->rank) && state().fault.kind != FaultKind::at_once) { comm->failing = call; }
    comm->pending.push_back({call, std::move(done)});
    return in_progress;
  }
  // finish(k) once all ranks have posted their k-th collective.
  template <class F>
  static Result collective(Comm comm, MockPost post, F const& finish)
  {
    std::lock_guard const lock(state().mutex);
    if (Result const r = faulty(post.call, comm, comm->rank); r > 0) { return r; }
    std::size_t const k = comm->collectives++;
    NcclCall const call = post.call;
    comm->world->posts[static_cast<std::size_t>(comm->rank)].push_back(std::move(post));
    return later(comm, call, [comm, k, finish] {
      auto& world      = *comm->world;
      auto const& mine = world.posts[static_cast<std::size_t>(comm->rank)][k];
      for (auto const& posts : world.posts) {
        if (posts.size() <= k) { return false; }
      }
      for (auto const& posts : world.posts) {
        auto const& p = posts[k];
        if (p.call != mine.call || p.count != mine.count || p.type != mine.type) {
          ++world.mismatches;
        }
      }
      finish(k);
      return true;
    });
  }
  static std::size_t size_of(NcclType type)
  {
    constexpr std::size_t sizes[] = {1, 1, 4, 4, 8, 8, 2, 2, 4, 8};
    return sizes[static_cast<int>(type)];
  }
  static MockPost post_of(
      NcclCall call, void const* from, std::size_t count, std::size_t elements, NcclType type)
  {
    MockPost post{.call = call, .count = count, .type = type};
    auto const* const at = static_cast<std::byte const*>(from);
    post.data.assign(at, at + elements * size_of(type));
    return post;
  }
  template <class T>
  static void sum_as(
      MockWorld const& world, std::size_t k, std::size_t first, void* to, std::size_t n)
  {
    for (std::size_t i = 0; i < n; ++i) {
      double total = 0;  // tests add up small whole numbers
      for (auto const& posts : world.posts) {
        T x;
        std::memcpy(&x, posts[k].data.data() + (first + i) * sizeof(T), sizeof(T));
        total += static_cast<double>(x);
      }
      T rounded;
      if constexpr (sizeof(T) == 2) {
        rounded = T(static_cast<float>(total));
      } else {
        rounded = static_cast<T>(total);
      }
      std::memcpy(static_cast<std::byte*>(to) + i * sizeof(T), &rounded, sizeof(T));
    }
  }
  static void sum(MockWorld const& world,
                  std::size_t k,
                  std::size_t first,
                  void* to,
                  std::size_t n,
                  NcclType type)
  {
    switch (type) {
      case NcclType::int8:
        return sum_as<std::int8_t>(world, k, first, to, n);
      case NcclType::uint8:
        return sum_as<std::uint8_t>(world, k, first, to, n);
      case NcclType::int32:
        return sum_as<std::int32_t>(world, k, first, to, n);
      case NcclType::uint32:
        return sum_as<std::uint32_t>(world, k, first, to, n);
      case NcclType::int64:
        return sum_as<std::int64_t>(world, k, first, to, n);
      case NcclType::uint64:
        return sum_as<std::uint64_t>(world, k, first, to, n);
      case NcclType::half:
        return sum_as<Half>(world, k, first, to, n);
      case NcclType::bfloat16:
        return sum_as<BFloat16>(world, k, first, to, n);
      case NcclType::float32:
        return sum_as<float>(world, k, first, to, n);
      case NcclType::float64:
        return sum_as<double>(world, k, first, to, n);
    }
  }
};
static_assert(NcclApiFor<MockNccl, Host>);

using MockCommunicator    = BasicNcclCommunicator<MockNccl>;
using MockCommunicatorRef = BasicNcclCommunicatorRef<MockNccl>;
static_assert(ExchangeCommunicator<MockCommunicator, Host, float>);
static_assert(ExchangeCommunicator<MockCommunicatorRef, Host, BFloat16>);

}  // namespace moe::test
