// Windows of ranks that are threads: ranks that never signal, that throw, that ask
// for something else.
#include <moe/comm/cuda/thread_window.cuh>
#include <moe/comm/thread_world.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"
#include "support/rank_gpus.hpp"
#include "support/window_ranks.hpp"

using namespace moe;
using namespace moe::test;
using std::chrono::milliseconds;

namespace {

ThreadWorldOptions const patient{.deadline = std::chrono::seconds(60)};

int failed_in_a_kernel(Cuda const& exec, Window<Cuda> const& window)
{
  Tensor<int, 1, Cuda> failed(exec, 1);
  exec.for_each_row(1, ReadFailed{window.view(), failed.view().data_handle()});
  int value = -1;
  exec.synchronize();
  exec.copy_to_host(&value, failed.view().data_handle(), sizeof value);
  return value;
}

// Rows that store nothing.
struct NothingRow {
  template <Team G>
  __device__ void operator()(G, index_t) const
  {
  }
};

enum class Way { apart, together, with_rows };
void signal_and_wait(Way way, Cuda const& exec, Window<Cuda> const& window, int channel)
{
  if (way == Way::together) { return window.signal_and_wait(exec, channel); }
  if (way == Way::with_rows) {
    return detail::for_each_row_and_wait(exec, 1000, NothingRow{}, window, channel);
  }
  window.signal(exec, channel);
  window.wait(exec, channel);
}

// turns, and how a rank signals and waits
struct Case {
  bool turns;
  Way way;
};
constexpr Case cases[] = {{false, Way::apart},
                          {false, Way::together},
                          {false, Way::with_rows},
                          {true, Way::apart},
                          {true, Way::with_rows}};

}  // namespace

// The deadline is in the kernel: the host only looks. Later waits do not last as long again.
TEST_CASE("ranks that never signal: a timeout that names them, within the deadline")
{
  for (auto const& [turns, way] : cases) {
    for (int const P : {2, 3, 5}) {
      CAPTURE(turns);
      CAPTURE(static_cast<int>(way));
      CAPTURE(P);
      std::vector<int> absent;
      for (int r = 1; r < P; r += 3) {
        absent.push_back(r);
      }
      auto const end = run_to_end(ThreadWorld(P, patient), [&](ThreadCommunicator const& comm) {
        Cuda const exec   = cuda_of(comm);
        auto const window = comm.window(
            exec,
            64,
            {.channels = 4, .deadline = milliseconds(600), .one_kernel_at_a_time = turns});
        signal_and_wait(way, exec, window, 3);
        if (comm.rank() % 3 == 1) {
          exec.synchronize();
          return;
        }
        signal_and_wait(way, exec, window, 3);
        for (int i = 1; i < 30; ++i) {
          window.wait(exec, 3);
        }
        exec.synchronize();
        CHECK(failed_in_a_kernel(exec, window) == 1);
        CHECK_THROWS_AS(window.signal(exec, 0), TimeoutError);
        window.check();
      });
      CHECK(end.thrown.kind == RankEnd::timeout);
      CHECK(end.thrown.operation == "moe::Window::wait");
      CHECK(end.thrown.missing == absent);
      CHECK(end.thrown.sequence == 2);
      CHECK_MESSAGE(end.thrown.text.find("on channel 3 (signal 2) is missing after 600 ms") !=
                        std::string::npos,
                    end.thrown.text);
      CHECK(end.seconds < 12);
      for (int r = 0; r < P; ++r) {
        auto const& e = end.ranks[static_cast<std::size_t>(r)];
        if (r % 3 != 1) { CHECK(e == end.ranks[0]); }
      }
    }
  }
}

TEST_CASE("in time there is no failure to see")
{
  ThreadWorld(2, patient).run([](ThreadCommunicator const& comm) {
    Cuda const exec   = cuda_of(comm);
    auto const window = comm.window(exec, 64, {.deadline = std::chrono::seconds(20)});
    if (comm.rank() == 1) { run_late(exec, 200); }
    window.signal(exec, 0);
    window.wait(exec, 0);
    CHECK(failed_in_a_kernel(exec, window) == 0);
    CHECK_NOTHROW(window.check());
  });
}

// Their waits are on the GPU already; they end long before any deadline.
TEST_CASE("a rank that throws while the others wait")
{
  for (auto const& [turns, way] : cases) {
    for (int const P : {2, 4}) {
      for (int failing = 0; failing < P; ++failing) {
        CAPTURE(turns);
        CAPTURE(static_cast<int>(way));
        CAPTURE(P);
        CAPTURE(failing);
        auto const end = run_to_end(ThreadWorld(P, patient), [&](ThreadCommunicator const& comm) {
          Cuda const exec = cuda_of(comm);
          auto const window =
              comm.window(exec, WindowRounds::bytes(P, 4096), {.one_kernel_at_a_time = turns});
          WindowRounds mine(exec, window, 4096);
          mine.run();
          mine.store();
          if (comm.rank() == failing) {
            exec.synchronize();
            std::this_thread::sleep_for(milliseconds(50));
            throw std::runtime_error("out of luck");
          }
          signal_and_wait(way, exec, window, 0);
          exec.synchronize();
          window.check();
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

TEST_CASE("bytes, channels or the way of waiting that differ are refused, with the rank")
{
  auto const refused = [](std::size_t bytes, WindowOptions const& options, char const* text) {
    auto const end = run_to_end(ThreadWorld(3, patient), [&](ThreadCommunicator const& comm) {
      bool const odd  = comm.rank() == 2;
      Cuda const exec = cuda_of(comm);
      (void)comm.window(exec, odd ? bytes : 64, odd ? options : WindowOptions{});
    });
    CHECK(end.thrown.kind == RankEnd::communication);
    CHECK(end.thrown.rank == 2);
    CHECK_MESSAGE(end.thrown.text.find(text) != std::string::npos, end.thrown.text);
    CHECK(end.ranks[0] == end.ranks[1]);
    CHECK(end.ranks[0] == end.ranks[2]);
  };
  refused(65, {}, "bytes of rank 2 at sequence 1 is 65, must be 64, as of rank 0");
  refused(64, {.channels = 9}, "channels of rank 2 at sequence 1 is 9, must be 8, as of rank 0");
  refused(64, {.one_kernel_at_a_time = true}, "space of rank 2 at sequence 1 is Cuda, one kernel");
}

TEST_CASE("more memory than there is: a typed error, and the rank can try again")
{
  ThreadWorld(2, patient).run([](ThreadCommunicator const& comm) {
    Cuda const exec = cuda_of(comm);
    if (comm.rank() == 1) {
      CHECK_THROWS_WITH_AS((void)comm.window(exec, std::size_t{1} << 45),
                           doctest::Contains("moe::ThreadCommunicator::window: bytes is "),
                           OutOfMemoryError);
    }
    auto const window = comm.window(exec, WindowRounds::bytes(2, 10));
    WindowRounds mine(exec, window, 10);
    mine.run();
    CHECK(mine.mistakes() == 0);
  });
}
