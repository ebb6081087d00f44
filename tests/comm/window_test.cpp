// Windows between ranks that are threads on Host, and of a world of one.
#include <moe/comm/decorators.hpp>
#include <moe/comm/thread_world.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"
#include "support/tracking_resource.hpp"

using namespace moe;
using namespace moe::test;
using std::chrono::milliseconds;

namespace {

ThreadWorldOptions const patient{.deadline = std::chrono::seconds(60)};

Host one_thread()
{
  return Host({.threads = 1});
}

std::uint64_t value(int from, int to, int round, std::size_t i)
{
  return static_cast<std::uint64_t>(((from * 37 + to) * 1009 + round) * 64) + i;
}

// Block r of each rank's memory is written by rank r. Channel 0: the blocks are there; channel 1:
// they have been read. Some ranks are late in some rounds.
void exchange(ThreadCommunicator const& comm, std::size_t words, int rounds, bool late)
{
  int const P = comm.size(), me = comm.rank();
  auto const block   = words * sizeof(std::uint64_t);
  Host const exec    = one_thread();
  auto const window  = comm.window(exec, static_cast<std::size_t>(P) * block);
  auto const view    = window.view();
  auto const word_at = [&](int at, int from) {
    return reinterpret_cast<std::uint64_t*>(view.of(at) + static_cast<std::size_t>(from) * block);
  };
  std::size_t wrong = 0;
  for (int round = 0; round < rounds; ++round) {
    if (late && (round * 7 + me * 5) % 11 == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
    for (int to = 0; to < P; ++to) {
      for (std::size_t i = 0; i < words; ++i) {
        word_at(to, me)[i] = value(me, to, round, i);
      }
    }
    window.signal(exec, 0);
    window.wait(exec, 0);
    for (int from = 0; from < P; ++from) {
      for (std::size_t i = 0; i < words; ++i) {
        wrong += word_at(me, from)[i] == value(from, me, round, i) ? 0U : 1U;
      }
    }
    window.signal(exec, 1);
    window.wait(exec, 1);
  }
  CHECK(wrong == 0);
  CHECK(!view.failed());
  CHECK_NOTHROW(window.check());
}

}  // namespace

TEST_CASE("what a rank stored before its signal is there after the wait")
{
  for (int const P : {1, 2, 3, 4, 8}) {
    CAPTURE(P);
    ThreadWorld(P, patient).run([](ThreadCommunicator const& comm) {
      exchange(comm, 33, 60, false);
      exchange(comm, 5, 60, true);
    });
  }
}

TEST_CASE("a window: its facts, zeros, an alignment of 256 bytes")
{
  ThreadWorld(3, patient).run([](ThreadCommunicator const& comm) {
    Host const exec   = one_thread();
    auto const window = comm.window(exec, 1001, {.channels = 3});
    CHECK(window.bytes() == 1001);
    CHECK(window.rank() == comm.rank());
    CHECK(window.size() == 3);
    CHECK(window.channels() == 3);
    CHECK(window.local() == window.view().of(comm.rank()));
    CHECK(reinterpret_cast<std::uintptr_t>(window.local()) % 256 == 0);
    CHECK(std::all_of(
        window.local(), window.local() + 1001, [](std::byte b) { return b == std::byte{0}; }));
    auto const empty = comm.window(exec, 0);
    CHECK(empty.bytes() == 0);
    empty.signal(exec, 7);
    empty.wait(exec, 7);
  });
}

TEST_CASE("channels count apart, and a rank may signal often before the others wait")
{
  ThreadWorld(4, patient).run([](ThreadCommunicator const& comm) {
    Host const exec   = one_thread();
    auto const window = comm.window(exec, 4 * sizeof(int), {.channels = 16});
    for (int round = 1; round <= 20; ++round) {
      for (int c = 0; c < 16; ++c) {
        window.signal(exec, (c + comm.rank() * 3) % 16);
      }
      for (int c = 15; c >= 0; --c) {
        window.wait(exec, c);
      }
    }
  });
}

TEST_CASE("windows of groups, several at once, in any order of their ends")
{
  ThreadWorld(4, patient).run([](ThreadCommunicator const& comm) {
    auto const pair = comm.split(comm.rank() % 2, comm.rank());
    exchange(pair, 9, 20, true);
    Host const exec = one_thread();
    auto a          = std::make_optional(comm.window(exec, 64));
    auto b          = std::make_optional(pair.window(exec, 64));
    auto c          = std::make_optional(comm.window(exec, 64));
    auto const last = comm.rank() % 2 == 0 ? &a : &c;
    (comm.rank() % 2 == 0 ? c : a).reset();
    for (int r = 0; r < 2; ++r) {
      b->view().of(r)[comm.rank()] = std::byte{7};
    }
    // A peer may have let it go: its memory is still there.
    for (int r = 0; r < 4; ++r) {
      (*last)->view().of(r)[comm.rank()] = std::byte{9};
    }
    b = std::move(*last);
    CHECK(b->size() == 4);
    CHECK(b->local()[comm.rank()] == std::byte{9});
    CHECK_THROWS_AS((*last)->check(), StateError);
  });
}

TEST_CASE("all ranks' windows let go by one thread, after their communicators")
{
  CountingResource resource;
  {
    std::vector<std::optional<Window<Host>>> windows(3);
    ThreadWorld(3, {.deadline = std::chrono::seconds(60), .resource = &resource})
        .run([&](ThreadCommunicator const& comm) {
          windows[static_cast<std::size_t>(comm.rank())] = comm.window(one_thread(), 4096);
        });
    windows[1].reset();
    for (int r = 0; r < 3; ++r) {
      windows[2]->view().of(r)[5] = std::byte{1};
    }
    CHECK(windows[0]->local()[5] == std::byte{1});
  }
  CHECK(resource.blocks() == 0);
  CHECK(resource.mistakes() == 0);
}

TEST_CASE("bytes, channels or the way of waiting that differ are refused, with the rank")
{
  auto const refused = [](std::size_t bytes, WindowOptions const& options, char const* text) {
    auto const end = run_to_end(ThreadWorld(3, patient), [&](ThreadCommunicator const& comm) {
      bool const odd = comm.rank() == 2;
      (void)comm.window(one_thread(), odd ? bytes : 64, odd ? options : WindowOptions{});
    });
    CHECK(end.thrown.kind == RankEnd::communication);
    CHECK(end.thrown.rank == 2);
    CHECK(end.thrown.operation == "moe::ThreadCommunicator::window");
    CHECK_MESSAGE(end.thrown.text.find(text) != std::string::npos, end.thrown.text);
    CHECK(end.ranks[0] == end.ranks[1]);
    CHECK(end.ranks[0] == end.ranks[2]);
  };
  refused(65, {}, "bytes of rank 2 at sequence 1 is 65, must be 64, as of rank 0");
  refused(64, {.channels = 9}, "channels of rank 2 at sequence 1 is 9, must be 8, as of rank 0");
  refused(64, {.one_kernel_at_a_time = true}, "space of rank 2 at sequence 1 is Host, one kernel");
}

TEST_CASE("what one rank can see to be wrong is refused there, and it can go on")
{
  ThreadWorld(2, patient).run([](ThreadCommunicator const& comm) {
    Host const exec = one_thread();
    CHECK_THROWS_AS((void)comm.window(exec, 8, {.channels = 0}), ValueError);
    CHECK_THROWS_AS((void)comm.window(exec, 8, {.deadline = milliseconds(-1)}), ValueError);
    CHECK_THROWS_AS((void)comm.window(exec, std::size_t{1} << 62), ValueError);
    auto const window = comm.window(exec, 8, {.channels = 2});
    CHECK_THROWS_WITH_AS(window.signal(exec, 2),
                         doctest::Contains("channel is 2, must be at most channels - 1 (1)"),
                         ValueError);
    CHECK_THROWS_AS(window.wait(exec, -1), ValueError);
    window.signal(exec, 1);
    window.wait(exec, 1);
  });
}

TEST_CASE("a world of one: memory of its own, and no flag to wait for")
{
  SelfCommunicator const comm;
  Host const exec   = one_thread();
  auto const window = comm.window(exec, 24, {.channels = 1});
  CHECK(window.size() == 1);
  window.view().of(0)[23] = std::byte{3};
  window.signal(exec, 0);
  window.wait(exec, 0);
  CHECK(window.local()[23] == std::byte{3});
  CHECK(window.local()[22] == std::byte{0});
  CHECK(!window.view().failed());
  CHECK_THROWS_AS(window.signal(exec, 1), ValueError);
  CHECK_THROWS_AS((void)comm.window(exec, 24, {.channels = 0}), ValueError);
}

TEST_CASE("a window is a collective of the decorators")
{
  ThreadWorld(2, patient).run([](ThreadCommunicator const& comm) {
    Host const exec = one_thread();
    RecordingCommunicator const recorded(comm);
    auto const window = recorded.window(exec, 48);
    window.signal(exec, 0);
    window.wait(exec, 0);
    REQUIRE(recorded.calls().size() == 1);
    CHECK(recorded.calls()[0].operation == std::string("window"));
    CHECK(recorded.calls()[0].bytes == 48);
    FailingCommunicator const failing(comm, 1);
    CHECK_THROWS_AS((void)failing.window(exec, 48), CommunicationError);
  });
}
