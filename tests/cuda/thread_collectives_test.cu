// Collectives of ranks that are threads with a GPU: in the order of their streams, exact when
// streams run late, with Host's bits.
#include "support/cuda_ranks.hpp"
#include "support/rank_gpus.hpp"

#include <chrono>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

using namespace moe;
using namespace moe::test;

namespace {

constexpr index_t lengths[] = {0, 1, 5, 127, 128, 129, 1000, 2500};

// What gives each rank its handle, where two of more ranks than GPUs share one.
struct InTurn {
  int devices;
  Cuda operator()(ThreadCommunicator const& comm) const
  {
    MOE_CUDA_TRY(cudaSetDevice(comm.rank() % devices));
    return Cuda();
  }
};
struct ByRule {
  Cuda operator()(ThreadCommunicator const& comm) const { return cuda_of(comm); }
};

template <class T, class MakeExec = ByRule>
void check_all_collectives(int P, MakeExec const& make_exec = {})
{
  CAPTURE(P);
  ThreadWorld(P, long_deadline).run([&](ThreadCommunicator const& comm) {
    Buffers<T> buffers(make_exec(comm), comm, 2500);
    index_t round = 0;
    for (int repeat = 0; repeat < 3; ++repeat) {
      for (index_t const n : lengths) {
        buffers.all_collectives(comm, ++round, n);
      }
    }
    CHECK(buffers.mistakes() == 0);
  });
}

// Rounds whose streams start late, each rank's by its own time, so that all of them are enqueued
// before the first runs; then some rank's stream is late again and again.
template <class MakeExec = ByRule>
void check_late_streams(int P, MakeExec const& make_exec = {})
{
  CAPTURE(P);
  ThreadWorld(P, long_deadline).run([&](ThreadCommunicator const& comm) {
    int const me = comm.rank();
    Buffers<float> buffers(make_exec(comm), comm, 40000);
    buffers.all_collectives(comm, 0, 40000);  // staged bytes do not grow below
    buffers.all_collectives(comm, 1, 40000);
    for (int late = 0; late < P; ++late) {
      delay(buffers.exec, me == late ? 40 : 5 + 10 * me);
      for (index_t round = 0; round < 6; ++round) {
        buffers.all_collectives(comm, 10 * late + round, round % 2 == 0 ? 40000 : 300);
      }
    }
    for (index_t round = 0; round < 60; ++round) {
      if (round % P == me) { delay(buffers.exec, 0.3); }
      buffers.all_gather(comm, 100 + round, 30000 + round);
      if ((round + 1) % P == me) { delay(buffers.exec, 0.3); }
      buffers.all_reduce(comm, 200 + round, 30000 + round);
    }
    CHECK(buffers.mistakes() == 0);
  });
}

}  // namespace

TEST_CASE_TEMPLATE("every collective delivers what it says, over and over, without a wait",
                   T,
                   float,
                   BFloat16,
                   Id,
                   index_t)
{
  for (int P = 1; P <= 4; ++P) {
    check_all_collectives<T>(P);
  }
}

TEST_CASE("streams that run late: events order them, no host does")
{
  for (int P = 2; P <= 4; ++P) {
    check_late_streams(P);
  }
}

TEST_CASE("of several GPUs, one for each rank but two that share one")
{
  int const devices = gpus();
  if (devices < 2) {
    MESSAGE("skipped: one GPU");
    return;
  }
  check_all_collectives<float>(devices + 1, InTurn{devices});
  check_all_collectives<BFloat16>(devices + 1, InTurn{devices});
  check_late_streams(devices + 1, InTurn{devices});
}

TEST_CASE("a rank stays on the GPU of its first collective")
{
  if (gpus() < 2) {
    MESSAGE("skipped: one GPU");
    return;
  }
  ThreadWorld(1).run([](ThreadCommunicator const& comm) {
    Buffers<float> buffers(cuda_of(comm), comm, 10);
    buffers.all_reduce(comm, 0, 10);
    CHECK(buffers.mistakes() == 0);
    MOE_CUDA_TRY(cudaSetDevice(1));
    {
      Buffers<float> other(Cuda{}, comm, 10);
      CHECK_THROWS_WITH_AS(other.all_reduce(comm, 0, 10),
                           doctest::Contains("the Cuda handle's device is 1, must be that of this "
                                             "rank's first collective here (0)"),
                           StateError);
    }
    use_gpu_of(0, 1);
  });
}

// The host goes on while the GPU has not begun.
TEST_CASE("a collective returns before it has run")
{
  ThreadWorld(3, long_deadline).run([](ThreadCommunicator const& comm) {
    Buffers<float> buffers(cuda_of(comm), comm, 1000);
    buffers.all_collectives(comm, 0, 1000);
    buffers.all_collectives(comm, 1, 1000);
    buffers.exec.synchronize();
    delay(buffers.exec, 500);
    auto const start = std::chrono::steady_clock::now();
    buffers.all_collectives(comm, 2, 1000);
    std::chrono::duration<double> const enqueued = std::chrono::steady_clock::now() - start;
    CHECK(cudaStreamQuery(buffers.exec.stream()) == cudaErrorNotReady);
    (void)cudaGetLastError();  // which is where "not ready" stays
    CHECK(enqueued.count() < 0.4);
    CHECK(buffers.mistakes() == 0);
  });
}

// A rank uses two streams in turn that nothing else orders.
TEST_CASE("a rank may change its stream from one collective to the next")
{
  ThreadWorld(3, long_deadline).run([](ThreadCommunicator const& comm) {
    Cuda const exec = cuda_of(comm);
    Buffers<float> one(exec, comm, 30000), other(exec.lane(0), comm, 30000);
    for (index_t round = 0; round < 40; ++round) {
      auto& buffers = round % 2 == 0 ? one : other;
      if (round % 3 == comm.rank()) { delay(buffers.exec, 0.5); }
      buffers.all_gather(comm, round, 30000 - 700 * round);
      buffers.all_reduce(comm, round, 700 * round);
    }
    CHECK(one.mistakes() == 0);
    CHECK(other.mistakes() == 0);
  });
}

TEST_CASE("groups, and collectives on Host between those on Cuda")
{
  ThreadWorld(4, long_deadline).run([](ThreadCommunicator const& comm) {
    auto const pair = comm.split(comm.rank() % 2, -comm.rank());
    Cuda const exec = cuda_of(comm);
    Host const host{{.threads = 1}};
    Buffers<float> all(exec, comm, 5000), two(exec, pair, 5000);
    for (index_t round = 0; round < 20; ++round) {
      if (round % 4 == comm.rank()) { delay(exec, 0.5); }
      all.all_collectives(comm, round, 5000 - round);
      two.all_collectives(pair, round, 4000 + round);
      for (index_t i = 0; i < round % 3; ++i) {
        std::vector<Id> x{1, comm.rank()};
        comm.all_reduce_sum(host, as_view(x));
        CHECK(x == std::vector<Id>{4, 6});
      }
    }
    CHECK(all.mistakes() == 0);
    CHECK(two.mistakes() == 0);
  });
}

namespace {

// Results of all ranks, one after the other: an all-reduce, and a reduce-scatter.
template <class T, class MakeExec>
std::vector<T> sums_of(int P, index_t n, MakeExec const& make_exec)
{
  std::vector<std::vector<T>> results(static_cast<std::size_t>(P));
  ThreadWorld(P, long_deadline).run([&](ThreadCommunicator const& comm) {
    auto const exec    = make_exec(comm);
    using ExecT        = std::decay_t<decltype(exec)>;
    double const scale = std::is_integral_v<T> ? 4e8 : 1;  // some sums of Id wrap around
    auto const seed    = static_cast<unsigned>(comm.rank());
    auto x             = put<T>(exec, normal_numbers(n, seed, scale), n);
    auto const send    = put<T>(exec, normal_numbers(P * n, 100 + seed, scale), P * n);
    Tensor<T, 1, ExecT> part(exec, n);
    comm.all_reduce_sum(exec, x.view());
    comm.reduce_scatter_sum(exec, send.const_view(), part.view());
    auto& result    = results[seed];
    result          = get(exec, x.const_view());
    auto const more = get(exec, part.const_view());
    result.insert(result.end(), more.begin(), more.end());
  });
  std::vector<T> all;
  for (auto const& r : results) {
    all.insert(all.end(), r.begin(), r.end());
  }
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("sums have Host's bits", T, float, double, Half, BFloat16, Id, index_t)
{
  auto const check = [](int P, index_t n) {
    CAPTURE(P);
    auto const host = sums_of<T>(P, n, [](auto const&) { return Host{{.threads = 1}}; });
    auto const cuda = sums_of<T>(P, n, ByRule{});
    REQUIRE(host.size() == static_cast<std::size_t>(2 * P * n));
    CHECK(std::memcmp(host.data(), cuda.data(), host.size() * sizeof(T)) == 0);
  };
  for (int P = 1; P <= 4; ++P) {
    check(P, 3001);
  }
  if constexpr (std::same_as<T, float> || std::same_as<T, BFloat16>) {
    check(67, 300);  // more ranks than one launch adds up
  }
}
