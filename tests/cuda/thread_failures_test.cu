// Ranks that are threads with a GPU: what ends them, what is refused, and how long staged bytes
// live.
#include "support/cuda_ranks.hpp"
#include "support/cuda_resource.hpp"
#include "support/rank_gpus.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace moe;
using namespace moe::test;

namespace {

// Rank 0 sends `half` bytes to each of two, and throws at once; its handle and buffers go.
void send_and_throw(ThreadCommunicator const& comm, index_t half)
{
  Cuda const exec = cuda_of(comm);
  Tensor<char, 1, Cuda> send(exec, 2 * half), receive(exec, 1);
  MOE_CUDA_TRY(cudaMemsetAsync(send.view().data_handle(), 'x', send.bytes(), exec.stream()));
  delay(exec, 20);
  Counts const to({0, half, half}), none({0, 0, 0});
  comm.all_to_all_v(exec, send.const_view(), to.blocks(), receive.view(), none.blocks());
  exec.zero(send.view().data_handle(), send.bytes());
  throw std::runtime_error("done with it");
}

}  // namespace

TEST_CASE("a rank unwinds while its peers' streams have still to read 64 MB of it")
{
  index_t const half = index_t{32} << 20;
  for (int repeat = 0; repeat < 4; ++repeat) {
    std::atomic<int> exact{0};
    auto const end = run_to_end(ThreadWorld(3, long_deadline), [&](ThreadCommunicator const& comm) {
      if (comm.rank() == 0) { send_and_throw(comm, half); }
      Cuda const exec = cuda_of(comm);
      Tensor<char, 1, Cuda> send(exec, 1), receive(exec, half);
      Counts const none({0, 0, 0}), from({half, 0, 0});
      comm.all_to_all_v(exec, send.const_view(), none.blocks(), receive.view(), from.blocks());
      auto const got = get(exec, receive.const_view());
      exact += std::count(got.begin(), got.end(), 'x') == half;
      comm.all_reduce_sum(exec, View<float, 1, Cuda>(nullptr, 0));
    });
    CHECK(exact == 2);
    CHECK(end.thrown.text == "done with it");
    for (int const r : {1, 2}) {
      auto const& e = end.ranks[static_cast<std::size_t>(r)];
      CHECK(e.kind == RankEnd::communication);
      CHECK(e.rank == 0);
      CHECK(e.text.find("done with it") != std::string::npos);
    }
  }
}

// The world goes while every stream has its collectives still to run; another world's staged bytes
// come from the same resource at once.
TEST_CASE("staged bytes are not used again before the streams have read them")
{
  constexpr int P = 3;
  std::vector<std::unique_ptr<CudaPool>> pools;  // one for each GPU that is used
  for (int r = 0; r < P; ++r) {
    pools.push_back(std::make_unique<CudaPool>(gpu_of(r, P)));
  }
  std::vector<std::unique_ptr<Buffers<float>>> buffers(P), later(P);
  auto const run = [&](auto& to, index_t round, double late) {
    ThreadWorld(P, long_deadline).run([&](ThreadCommunicator const& comm) {
      auto& mine = to[static_cast<std::size_t>(comm.rank())];
      auto& pool = *pools[static_cast<std::size_t>(gpu_of(comm.rank(), P))];
      mine = std::make_unique<Buffers<float>>(cuda_of(comm, {.resource = &pool}), comm, 50000);
      if (late > 0) { delay(mine->exec, late * (1 + comm.rank())); }
      mine->all_collectives(comm, round, 50000);
    });
  };
  run(buffers, 1, 60);
  run(later, 7, 0);
  for (auto* of_ranks : {&buffers, &later}) {
    for (auto& b : *of_ranks) {
      use_gpu_of(b->me, P);
      CHECK(b->mistakes() == 0);
      b.reset();
    }
  }
  use_gpu_of(0, P);
}

TEST_CASE("a steady state asks for no memory, and all of it returns")
{
  constexpr int P = 3;
  std::vector<std::unique_ptr<WatchedPool>> pools;
  for (int r = 0; r < P; ++r) {
    pools.push_back(std::make_unique<WatchedPool>(gpu_of(r, P)));
  }
  ThreadWorld(P, long_deadline).run([&](ThreadCommunicator const& comm) {
    auto& pool = *pools[static_cast<std::size_t>(comm.rank())];
    Buffers<float> buffers(cuda_of(comm, {.resource = &pool}), comm, 3000);
    buffers.all_collectives(comm, 0, 3000);  // five: each half sees each of them
    buffers.all_collectives(comm, 1, 3000);
    std::size_t const asked = pool.asked();
    CHECK(asked >= 5);  // three of the test's, two halves
    for (index_t round = 0; round < 30; ++round) {
      buffers.all_collectives(comm, round, round * 100);
    }
    CHECK(pool.asked() == asked);
    CHECK(buffers.mistakes() == 0);
  });
  for (auto const& pool : pools) {
    CHECK(pool->blocks() == 0);
  }
}

TEST_CASE("no memory to stage in, at every allocation: a typed error there, its cause elsewhere")
{
  auto const names_it = [](std::string const& text) {
    return text.find("staged bytes is ") != std::string::npos ||
           text.find("bytes to sum in is ") != std::string::npos;  // of ranks of other GPUs
  };
  std::size_t failed = 0;
  for (int failing = 0; failing < 3; ++failing) {
    for (std::size_t k = 1;; ++k) {
      CAPTURE(failing);
      CAPTURE(k);
      WatchedPool pool(gpu_of(failing, 3));
      auto const end =
          run_to_end(ThreadWorld(3, long_deadline), [&](ThreadCommunicator const& comm) {
            bool const mine = comm.rank() == failing;
            Cuda const exec = cuda_of(comm, {.resource = mine ? &pool : nullptr});
            Buffers<float> buffers(exec, comm, 1000);
            if (mine) { pool.fail_at(k); }
            for (index_t round = 0; round < 3; ++round) {
              buffers.all_collectives(comm, round, 500 * round);
            }
          });
      CHECK(pool.blocks() == 0);
      if (!pool.failed()) {
        CHECK(end.thrown == RankEnd{});
        break;
      }
      ++failed;
      CHECK(end.thrown.kind == RankEnd::other);
      CHECK_MESSAGE(names_it(end.thrown.text), end.thrown.text);
      for (int r = 0; r < 3; ++r) {
        auto const& e = end.ranks[static_cast<std::size_t>(r)];
        CHECK(e.kind == (r == failing ? RankEnd::other : RankEnd::communication));
        CHECK_MESSAGE(names_it(e.text), e.text);
      }
    }
  }
  CHECK(failed >= 6);  // both halves of three ranks
}

TEST_CASE("after a refused allocation a rank can try again")
{
  WatchedPool pools[2]{WatchedPool(gpu_of(0, 2)), WatchedPool(gpu_of(1, 2))};
  ThreadWorld(2, long_deadline).run([&](ThreadCommunicator const& comm) {
    auto& pool = pools[comm.rank()];
    Buffers<float> buffers(cuda_of(comm, {.resource = &pool}), comm, 1000);
    pool.fail_at(1);
    CHECK_THROWS_AS(buffers.all_reduce(comm, 0, 1000), OutOfMemoryError);
    pool.fail_at(0);
    buffers.all_collectives(comm, 1, 1000);
    CHECK(buffers.mistakes() == 0);
  });
  CHECK(pools[0].blocks() + pools[1].blocks() == 0);
}

TEST_CASE("a stream that is being captured is refused, and the capture goes on")
{
  ThreadWorld(2, long_deadline).run([](ThreadCommunicator const& comm) {
    Buffers<float> buffers(cuda_of(comm), comm, 100);
    buffers.all_collectives(comm, 0, 100);
    cudaStream_t const stream = buffers.exec.stream();
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    auto const refused = doctest::Contains(
        "the stream is being captured into a graph, must be free: ranks that "
        "are threads meet on the host");
    auto const one = buffers.sent(1), two = buffers.received(2);
    CHECK_THROWS_WITH_AS(comm.all_reduce_sum(buffers.exec, one), refused, StateError);
    CHECK_THROWS_WITH_AS(comm.all_gather(buffers.exec, one, two), refused, StateError);
    CHECK_THROWS_WITH_AS(comm.reduce_scatter_sum(buffers.exec, two, one), refused, StateError);
    CHECK_THROWS_WITH_AS(comm.all_to_all(buffers.exec, buffers.sent(2), two), refused, StateError);
    Counts const counts({1, 1});
    CHECK_THROWS_WITH_AS(
        comm.all_to_all_v(buffers.exec, buffers.sent(2), counts.blocks(), two, counts.blocks()),
        refused,
        StateError);
    cudaGraph_t graph = nullptr;
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    std::size_t nodes = 1;
    CHECK(cudaGraphGetNodes(graph, nullptr, &nodes) == cudaSuccess);
    CHECK(nodes == 0);
    CHECK(cudaGraphDestroy(graph) == cudaSuccess);
    buffers.all_collectives(comm, 1, 100);
    CHECK(buffers.mistakes() == 0);
  });
}

TEST_CASE("ranks on different spaces are told")
{
  auto const end = run_to_end(ThreadWorld(2, long_deadline), [](ThreadCommunicator const& comm) {
    if (comm.rank() == 0) {
      std::vector<float> x(4);
      comm.all_reduce_sum(Host{{.threads = 1}}, as_view(x));
    } else {
      Cuda const exec = cuda_of(comm);
      Tensor<float, 1, Cuda> x(exec, 4);
      comm.all_reduce_sum(exec, x.view());
    }
  });
  CHECK(end.thrown.kind == RankEnd::communication);
  CHECK(end.thrown.text.find("space of rank 1 at sequence 1 is Cuda, must be Host, as of rank 0") !=
        std::string::npos);
  CHECK(end.ranks[0] == end.ranks[1]);
}

TEST_CASE("a rank that never comes: a timeout, though its stream is idle")
{
  auto const end = run_to_end(ThreadWorld(3, {.deadline = std::chrono::milliseconds(700)}),
                              [](ThreadCommunicator const& comm) {
                                Buffers<float> buffers(cuda_of(comm), comm, 10);
                                buffers.all_gather(comm, 0, 10);
                                if (comm.rank() == 1) { return; }
                                buffers.all_reduce(comm, 1, 10);
                              });
  CHECK(end.thrown.kind == RankEnd::timeout);
  CHECK(end.thrown.missing == std::vector<int>{1});
  CHECK(end.thrown.sequence == 2);
  CHECK(end.ranks[0] == end.ranks[2]);
}
