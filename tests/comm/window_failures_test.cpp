// Windows between ranks that are threads on Host: ranks that never signal, that throw, that run out
// of memory.
#include <moe/comm/thread_world.hpp>

#include <chrono>
#include <cstdint>
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

}  // namespace

TEST_CASE("ranks that never signal: a timeout that names them, within the deadline")
{
  for (int const P : {2, 3, 8}) {
    CAPTURE(P);
    std::vector<int> absent;
    for (int r = 1; r < P; r += 3) {
      absent.push_back(r);
    }
    auto const end = run_to_end(ThreadWorld(P, patient), [&](ThreadCommunicator const& comm) {
      Host const exec   = one_thread();
      auto const window = comm.window(exec, 8, {.channels = 4, .deadline = milliseconds(100)});
      window.signal(exec, 3);
      window.wait(exec, 3);
      if (comm.rank() % 3 == 1) { return; }
      window.signal(exec, 3);
      try {
        window.wait(exec, 3);
      } catch (TimeoutError const&) {
        CHECK(window.view().failed());
        CHECK_THROWS_AS(window.check(), TimeoutError);
        CHECK_THROWS_AS(window.signal(exec, 0), TimeoutError);
        throw;
      }
    });
    CHECK(end.thrown.kind == RankEnd::timeout);
    CHECK(end.thrown.operation == "moe::Window::wait");
    CHECK(end.thrown.missing == absent);
    CHECK(end.thrown.sequence == 2);
    CHECK_MESSAGE(end.thrown.text.find("on channel 3 (signal 2) is missing after 100 ms") !=
                      std::string::npos,
                  end.thrown.text);
    CHECK(end.seconds < 10);
    for (int r = 0; r < P; ++r) {
      auto const& e = end.ranks[static_cast<std::size_t>(r)];
      if (r % 3 == 1) {
        CHECK(e == RankEnd{});
      } else {
        CHECK(e == end.ranks[0]);
      }
    }
  }
}

TEST_CASE("the world's deadline is the window's where none is given")
{
  auto const end = run_to_end(ThreadWorld(2, {.deadline = milliseconds(150)}),
                              [](ThreadCommunicator const& comm) {
                                Host const exec   = one_thread();
                                auto const window = comm.window(exec, 8);
                                if (comm.rank() == 1) { return; }
                                window.signal(exec, 0);
                                window.wait(exec, 0);
                              });
  CHECK(end.thrown.kind == RankEnd::timeout);
  CHECK(end.thrown.missing == std::vector<int>{1});
  CHECK(end.seconds < 10);
}

// In a group the ranks are told as the world numbers them.
TEST_CASE("a rank of a group that never signals")
{
  auto const end = run_to_end(ThreadWorld(4, patient), [](ThreadCommunicator const& comm) {
    auto const pair   = comm.split(comm.rank() % 2, comm.rank());
    Host const exec   = one_thread();
    auto const window = pair.window(exec, 8, {.deadline = milliseconds(100)});
    if (comm.rank() == 3) { return; }
    window.signal(exec, 0);
    window.wait(exec, 0);
  });
  CHECK(end.thrown.kind == RankEnd::timeout);
  CHECK(end.thrown.missing == std::vector<int>{3});
}

// At each step, on each rank: the others end with its cause, long before any deadline.
TEST_CASE("a rank that throws while the others wait")
{
  for (int const P : {2, 4, 8}) {
    for (int failing = 0; failing < P; ++failing) {
      for (int step = 0; step < 5; ++step) {
        CAPTURE(P);
        CAPTURE(failing);
        CAPTURE(step);
        auto const end = run_to_end(ThreadWorld(P, patient), [&](ThreadCommunicator const& comm) {
          auto const come_to = [&](int s) {
            if (s == step && comm.rank() == failing) { throw std::runtime_error("out of luck"); }
          };
          Host const exec = one_thread();
          come_to(0);
          auto const window = comm.window(exec, 1 << 16);
          come_to(1);
          // What the failing rank has let go can still be written to.
          for (int r = 0; r < P; ++r) {
            window.view().of(r)[comm.rank() * 64] = std::byte{1};
          }
          window.signal(exec, 0);
          come_to(2);
          window.wait(exec, 0);
          for (int r = 0; r < P; ++r) {
            window.view().of(r)[comm.rank() * 64] = std::byte{2};
          }
          come_to(3);
          window.signal(exec, 1);
          window.wait(exec, 1);
          come_to(4);
          window.signal(exec, 0);
          window.wait(exec, 0);
        });
        CHECK(end.thrown.kind == RankEnd::other);
        CHECK(end.thrown.text == "out of luck");
        CHECK(end.seconds < 30);
        for (int r = 0; r < P; ++r) {
          auto const& e = end.ranks[static_cast<std::size_t>(r)];
          if (r == failing) { continue; }
          CHECK(e.kind == RankEnd::communication);
          CHECK(e.rank == failing);
          CHECK(e.text.find("out of luck") != std::string::npos);
        }
      }
    }
  }
}

TEST_CASE("a rank late by less than the deadline is waited for")
{
  ThreadWorld(3, patient).run([](ThreadCommunicator const& comm) {
    Host const exec   = one_thread();
    auto const window = comm.window(exec, 64, {.deadline = std::chrono::seconds(30)});
    for (int late = 0; late < 3; ++late) {
      if (comm.rank() == late) { std::this_thread::sleep_for(milliseconds(60)); }
      window.view().of((comm.rank() + 1) % 3)[late] = std::byte{5};
      window.signal(exec, late);
      window.wait(exec, late);
      CHECK(window.local()[late] == std::byte{5});
    }
  });
}

TEST_CASE("no memory for a window: a typed error, and the rank can try again")
{
  CountingResource counted;
  LimitedResource limited(1 << 16, &counted);
  {
    ThreadWorld const world(2, {.deadline = std::chrono::seconds(60), .resource = &limited});
    world.run([](ThreadCommunicator const& comm) {
      Host const exec = one_thread();
      if (comm.rank() == 1) {
        CHECK_THROWS_WITH_AS((void)comm.window(exec, 1 << 20),
                             doctest::Contains("moe::ThreadCommunicator::window: bytes is 1048576"),
                             OutOfMemoryError);
      }
      for (int repeat = 0; repeat < 100; ++repeat) {  // each before the last one's is needed
        auto const window = comm.window(exec, 1 << 12);
        window.signal(exec, 0);
        window.wait(exec, 0);
      }
    });
  }
  CHECK(counted.blocks() == 0);
  CHECK(counted.mistakes() == 0);
}
