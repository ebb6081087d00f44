// Small collectives over a window, between ranks that are threads. While a rank may wait on a GPU
// that they share, no other allocates or copies from the host: inputs are there before.
#include <moe/comm/cuda/thread_call.cuh>
#include <moe/comm/cuda/thread_window.cuh>
#include <moe/comm/thread_world.hpp>
#include <moe/comm/window_communicator.hpp>

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include "support/rank_ends.hpp"
#include "support/rank_gpus.hpp"
#include "support/window_ranks.hpp"

using namespace moe;
using namespace moe::test;
using std::chrono::milliseconds;

namespace {

using Small = WindowCommunicator<ThreadCommunicator, Cuda>;
static_assert(ExchangeCommunicator<Small, Cuda, float> && HasWindow<Small, Cuda> &&
              ExchangeCommunicator<Small, Host, float>);

ThreadWorldOptions const patient{.deadline = std::chrono::seconds(60)};

Host one_thread()
{
  return Host({.threads = 1});
}

// All ranks have come here, on the host.
void meet(ThreadCommunicator const& comm)
{
  std::vector<int> x{1};
  comm.all_reduce_sum(one_thread(), as_view(x));
}

// Integers that wrap around in sums, or reals whose sums depend on their order.
template <class T>
MOE_HOST_DEVICE T value(int rank, index_t round, index_t i)
{
  auto const k = (rank * 31 + i * 7 + round * 13 + 3) % 19;
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<std::uint64_t>(k) * 0x1234567890abcdefULL);
  } else {
    return static_cast<T>(static_cast<float>(k) / 7.f - 1.f);
  }
}

// Calls in a row: each rank's buffers one after the other, in one memory, and what
// ThreadCommunicator makes of them on Host.
template <class T>
class Calls {
 public:
  Calls(ThreadCommunicator const& comm, std::vector<index_t> lengths)
      : comm_{comm}, lengths_{std::move(lengths)}
  {
    Host const host = one_thread();
    index_t const P = comm.size();
    for (index_t const n : lengths_) {
      auto const part    = values(n);
      auto const parts   = values(P * n);
      std::vector<T> sum = part, gathered(parts.size()), exchanged(parts.size());
      comm.all_reduce_sum(host, as_view(sum));
      comm.all_gather(host, as_view(part), as_view(gathered));
      comm.all_to_all(host, as_view(parts), as_view(exchanged));
      // What the collectives write is something else before.
      std::vector<T> const other(parts.size(), T(5));
      for (auto const& before : {part, part, other, parts, other}) {
        append(buffers_, before);
      }
      for (auto const& after : {sum, part, gathered, parts, exchanged}) {
        append(expected_, after);
      }
    }
  }

  // On buffers() at `at`; nothing waits for the GPU.
  void run(Small const& small, Cuda const& exec, T* at) const
  {
    index_t const P = small.size();
    for (index_t const n : lengths_) {
      auto const view = [&](index_t size) {
        View<T, 1, Cuda> const v(at, size);
        at += size;
        return v;
      };
      small.all_reduce_sum(exec, view(n));
      auto const part      = view(n);
      auto const gathered  = view(P * n);
      auto const parts     = view(P * n);
      auto const exchanged = view(P * n);
      if (n == lengths_[lengths_.size() / 2] && small.rank() == 0) { run_late(exec, 1); }
      small.all_gather(exec, part, gathered);
      small.all_to_all(exec, parts, exchanged);
    }
  }
  [[nodiscard]] std::vector<T> const& buffers() const { return buffers_; }
  [[nodiscard]] std::vector<T> const& expected() const { return expected_; }

 private:
  [[nodiscard]] std::vector<T> values(index_t n)
  {
    std::vector<T> v;
    ++round_;
    for (index_t i = 0; i < n; ++i) {
      v.push_back(value<T>(comm_.rank(), round_, i));
    }
    return v;
  }
  static void append(std::vector<T>& to, std::vector<T> const& v)
  {
    to.insert(to.end(), v.begin(), v.end());
  }

  ThreadCommunicator const& comm_;
  std::vector<index_t> lengths_;
  index_t round_ = 0;
  std::vector<T> buffers_, expected_;
};

}  // namespace

TEST_CASE_TEMPLATE("results have the bits of ThreadCommunicator's on Host, round after round",
                   T,
                   float,
                   BFloat16,
                   Id,
                   index_t)
{
  for (int const P : {1, 2, 3, 4}) {
    CAPTURE(P);
    ThreadWorld(P, patient).run([](ThreadCommunicator const& comm) {
      Cuda const exec         = cuda_of(comm);
      constexpr index_t limit = 3000 / static_cast<index_t>(sizeof(T));
      std::vector<index_t> lengths;
      for (int repeat = 0; repeat < 8; ++repeat) {
        for (index_t const n : {index_t{0}, index_t{1}, index_t{7}, index_t{129}, limit}) {
          lengths.push_back(n);
        }
      }
      Calls<T> const calls(comm, lengths);
      Tensor<T, 1, Cuda> buffers(exec, static_cast<index_t>(calls.buffers().size()));
      Small const small(exec, comm, {.bytes = 3000});
      exec.copy_from_host(
          buffers.view().data_handle(), calls.buffers().data(), calls.buffers().size() * sizeof(T));
      exec.synchronize();
      meet(comm);
      calls.run(small, exec, buffers.view().data_handle());
      CHECK_NOTHROW(small.wait(exec));
      std::vector<T> got(calls.expected().size());
      exec.copy_to_host(got.data(), buffers.view().data_handle(), got.size() * sizeof(T));
      CHECK(std::memcmp(got.data(), calls.expected().data(), got.size() * sizeof(T)) == 0);
    });
  }
}

TEST_CASE("what is larger than the window's part goes to the inner communicator")
{
  ThreadWorld(3, patient).run([](ThreadCommunicator const& comm) {
    Cuda const exec = cuda_of(comm);
    std::vector<index_t> const lengths{10, 11, 10, 500, 3};
    Calls<float> const calls(comm, lengths);
    Tensor<float, 1, Cuda> buffers(exec, static_cast<index_t>(calls.buffers().size()));
    Small const small(exec, comm, {.bytes = 40});
    Tensor<float, 1, Cuda> sent(exec, 1500), received(exec, 1500);
    exec.zero(sent.view().data_handle(), sent.bytes());
    for (int half = 0; half < 2; ++half) {  // staged bytes do not grow below
      comm.all_to_all(exec, sent.const_view(), received.view());
    }
    exec.copy_from_host(buffers.view().data_handle(),
                        calls.buffers().data(),
                        calls.buffers().size() * sizeof(float));
    exec.synchronize();
    meet(comm);
    calls.run(small, exec, buffers.view().data_handle());
    CHECK_NOTHROW(small.wait(exec));
    std::vector<float> got(calls.expected().size());
    exec.copy_to_host(got.data(), buffers.view().data_handle(), got.size() * sizeof(float));
    CHECK(got == calls.expected());
  });
}

namespace {

template <class T>
struct FillRoundRow {
  T* to;
  index_t const* round;
  int rank;
  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t i) const
  {
    if (team.lane() == 0) { to[i] = value<T>(rank, *round, i); }
  }
};
// got (n): sums over `ranks` of their i. got (ranks * n): i of rank i / n, from `first` on.
template <class T>
struct CompareRoundRow {
  T const* got;
  index_t const* round;
  int* wrong;
  int ranks;
  index_t n;
  index_t first;
  bool sums;
  template <Team G>
  __device__ void operator()(G team, index_t i) const
  {
    if (team.lane() != 0) { return; }
    T expected = value<T>(sums ? 0 : static_cast<int>(i / n), *round, first + (sums ? i : i % n));
    for (int r = 1; sums && r < ranks; ++r) {
      if constexpr (std::is_integral_v<T>) {
        expected = static_cast<T>(static_cast<std::uint64_t>(expected) +
                                  static_cast<std::uint64_t>(value<T>(r, *round, i)));
      } else {
        expected += value<T>(r, *round, i);
      }
    }
    if (got[i] != expected) { atomicAdd(wrong, 1); }
  }
};

// Five collectives: an odd number, so that each uses the other half of the window at each replay.
class Step {
 public:
  Step(Cuda const& exec, Small const& small)
      : exec_{exec},
        small_{small},
        real_(exec, 300),
        id_(exec, 2 * 64),
        ids_(exec, 2 * 64),
        count_(exec, 33),
        counts_(exec, 4 * 33),
        round_(exec, 1),
        wrong_(exec, 1)
  {
    exec.zero(round_.view().data_handle(), sizeof(index_t));
    exec.zero(wrong_.view().data_handle(), sizeof(int));
  }
  void run()
  {
    int const P                     = small_.size();
    index_t const m                 = 128 / P;  // of an all-to-all
    View<float, 1, Cuda> const real = real_.view();
    View<float, 1, Cuda> const one(real_.view().data_handle(), 1);
    View<Id, 1, Cuda> const parts(id_.view().data_handle(), P * m);
    View<Id, 1, Cuda> const exchanged(ids_.view().data_handle(), P * m);
    View<index_t, 1, Cuda> const gathered(counts_.view().data_handle(), P * 33);
    fill(real);
    small_.all_reduce_sum(exec_, real);
    compare(real, real.size(), 0, true);
    fill(count_.view());
    small_.all_gather(exec_, count_.const_view(), gathered);
    compare(gathered, 33, 0, false);
    fill(parts);
    small_.all_to_all(exec_, parts, exchanged);
    compare(exchanged, m, small_.rank() * m, false);
    small_.all_reduce_sum(exec_, parts);
    compare(parts, parts.size(), 0, true);
    fill(one);
    small_.all_reduce_sum(exec_, one);
    compare(one, 1, 0, true);
    exec_.for_each_row(1, NextRound{round_.view().data_handle()});
  }
  // Waits for the stream.
  [[nodiscard]] int mistakes()
  {
    int n = -1;
    exec_.synchronize();
    exec_.copy_to_host(&n, wrong_.view().data_handle(), sizeof n);
    return n;
  }
  [[nodiscard]] index_t rounds()
  {
    index_t n = -1;
    exec_.synchronize();
    exec_.copy_to_host(&n, round_.view().data_handle(), sizeof n);
    return n;
  }

 private:
  template <class T>
  void fill(View<T, 1, Cuda> to)
  {
    exec_.for_each_row(
        to.size(), FillRoundRow<T>{to.data_handle(), round_.view().data_handle(), small_.rank()});
  }
  template <class T>
  void compare(View<T, 1, Cuda> got, index_t n, index_t first, bool sums)
  {
    exec_.for_each_row(got.size(),
                       CompareRoundRow<T>{got.data_handle(),
                                          round_.view().data_handle(),
                                          wrong_.view().data_handle(),
                                          small_.size(),
                                          n,
                                          first,
                                          sums});
  }

  Cuda exec_;
  Small const& small_;
  Tensor<float, 1, Cuda> real_;
  Tensor<Id, 1, Cuda> id_, ids_;
  Tensor<index_t, 1, Cuda> count_, counts_;
  Tensor<index_t, 1, Cuda> round_;
  Tensor<int, 1, Cuda> wrong_;
};

}  // namespace

TEST_CASE("a captured graph of collectives is replayed, with other inputs each time")
{
  for (int const P : {1, 2, 3, 4}) {
    CAPTURE(P);
    ThreadWorld(P, patient).run([](ThreadCommunicator const& comm) {
      Cuda const exec = cuda_of(comm);
      Small const small(exec, comm, {.bytes = 2048});
      Step step(exec, small);
      Tensor<float, 1, Cuda> large(exec, 513);
      exec.synchronize();
      meet(comm);
      step.run();
      exec.synchronize();
      cudaGraph_t graph        = nullptr;
      cudaGraphExec_t replayed = nullptr;
      MOE_CUDA_TRY(cudaStreamBeginCapture(exec.stream(), cudaStreamCaptureModeThreadLocal));
      step.run();
      CHECK_THROWS_AS(small.all_reduce_sum(exec, large.view()), StateError);
      MOE_CUDA_TRY(cudaStreamEndCapture(exec.stream(), &graph));
      MOE_CUDA_TRY(cudaGraphInstantiate(&replayed, graph, 0));
      MOE_CUDA_TRY(cudaGraphUpload(replayed, exec.stream()));
      exec.synchronize();
      meet(comm);  // all are made before any runs
      for (int i = 0; i < 20; ++i) {
        if ((i + comm.rank()) % 7 == 0) { run_late(exec, 0.3); }
        MOE_CUDA_TRY(cudaGraphLaunch(replayed, exec.stream()));
      }
      step.run();
      CHECK(step.mistakes() == 0);
      CHECK(step.rounds() == 22);
      CHECK_NOTHROW(small.check());
      meet(comm);  // returning graphs may wait
      MOE_CUDA_TRY(cudaGraphExecDestroy(replayed));
      MOE_CUDA_TRY(cudaGraphDestroy(graph));
    });
  }
}

TEST_CASE("groups, each with a window of its own")
{
  ThreadWorld(4, patient).run([](ThreadCommunicator const& comm) {
    Cuda const exec = cuda_of(comm);
    Small const small(exec, comm);
    Small const pair = small.split(comm.rank() % 2, comm.rank());
    Step all(exec, small), two(exec, pair);
    exec.synchronize();
    meet(comm);
    for (int round = 0; round < 5; ++round) {
      all.run();
      two.run();
    }
    CHECK(all.mistakes() + two.mistakes() == 0);
  });
}

// What was there would be taken for counts.
TEST_CASE("a rank that never comes: zeros, and a timeout that names it")
{
  auto const end = run_to_end(ThreadWorld(3, patient), [](ThreadCommunicator const& comm) {
    Cuda const exec = cuda_of(comm);
    std::vector<Id> const ones(100, 1);
    std::vector<Id> got(100, 1), gathered(300, 1);
    Tensor<Id, 1, Cuda> x(exec, 100), all(exec, 300);
    exec.copy_from_host(x.view().data_handle(), ones.data(), 100 * sizeof(Id));
    exec.copy_from_host(all.view().data_handle(), gathered.data(), 300 * sizeof(Id));
    Small const small(exec, comm, {.deadline = milliseconds(600)});
    exec.synchronize();
    meet(comm);
    small.all_reduce_sum(exec, x.view());  // every one comes to this
    exec.synchronize();
    meet(comm);
    if (comm.rank() == 1) { return; }
    small.all_gather(exec, x.const_view(), all.view());
    exec.synchronize();
    exec.copy_to_host(got.data(), x.view().data_handle(), 100 * sizeof(Id));
    exec.copy_to_host(gathered.data(), all.view().data_handle(), 300 * sizeof(Id));
    CHECK(got == std::vector<Id>(100, 3));
    CHECK(gathered == std::vector<Id>(300, 0));
    small.wait(exec);
  });
  CHECK(end.thrown.kind == RankEnd::timeout);
  CHECK(end.thrown.operation == "moe::Window::wait");
  CHECK(end.thrown.missing == std::vector<int>{1});
  CHECK(end.ranks[0] == end.ranks[2]);
}

TEST_CASE("a rank that throws ends the others with its cause")
{
  for (int const P : {2, 4}) {
    for (int failing = 0; failing < P; failing += P - 1) {
      CAPTURE(P);
      CAPTURE(failing);
      auto const end = run_to_end(ThreadWorld(P, patient), [&](ThreadCommunicator const& comm) {
        Cuda const exec = cuda_of(comm);
        Tensor<float, 1, Cuda> x(exec, 100);
        exec.zero(x.view().data_handle(), x.bytes());
        Small const small(exec, comm);
        exec.synchronize();
        meet(comm);
        small.all_reduce_sum(exec, x.view());
        if (comm.rank() == failing) {
          exec.synchronize();
          std::this_thread::sleep_for(milliseconds(50));
          throw std::runtime_error("out of luck");
        }
        small.all_reduce_sum(exec, x.view());
        small.wait(exec);
      });
      CHECK(end.seconds < 20);
      for (int r = 0; r < P; ++r) {
        auto const& e = end.ranks[static_cast<std::size_t>(r)];
        CHECK_MESSAGE(e.text.find("out of luck") != std::string::npos, e.text);
        CHECK(e.kind == (r == failing ? RankEnd::other : RankEnd::communication));
      }
    }
  }
}
