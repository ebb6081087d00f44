// A profiler on streams: intervals of several on one time line, events that are used again,
// captures that stay whole.
#include "support/cuda_resource.hpp"
#include "support/cuda_step.hpp"

#include <doctest/doctest.h>

#include <moe/comm/thread_world.hpp>

using namespace moe;
using namespace moe::test;

namespace {

__global__ void spin_kernel(unsigned long long ns)
{
  unsigned long long begin = 0, now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
  do {
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while (now - begin < ns);
}
void spin(Cuda const& exec, int ms)
{
  spin_kernel<<<1, 1, 0, exec.stream()>>>(1000000ULL * static_cast<unsigned long long>(ms));
  REQUIRE(cudaPeekAtLastError() == cudaSuccess);
}

// Communication on a lane and experts on the stream, beside each other or one after the other.
ProfileReport two_streams(bool beside)
{
  CudaProfiler profiler;
  Cuda const exec = Cuda{}.with(profiler);
  Cuda const side = exec.lane(1);
  spin(exec, 1);  // loads the kernel
  spin(side, 1);
  side.synchronize();
  exec.synchronize();
  {
    auto const pass = exec.phase(Phase::forward);
    side.wait(exec.mark());
    {
      auto const phase = side.phase(Phase::communication);
      side.count_sent(3000);
      spin(side, 30);
    }
    if (!beside) { exec.wait(side.mark()); }
    {
      auto const phase = exec.phase(Phase::experts);
      spin(exec, 30);
    }
    if (beside) { exec.wait(side.mark()); }
  }
  return profiler.report();
}

}  // namespace

TEST_CASE("phases of two streams are on one time line")
{
  auto const beside = two_streams(true), after = two_streams(false);
  for (auto const& r : {beside, after}) {
    CHECK(r.communication_ms >= 29);
    CHECK(r.communication_ms < 300);
    CHECK(r.experts_ms >= 29);
    CHECK(r.of(Phase::forward, Phase::communication).calls == 1);
    CHECK(r.bytes_sent == 3000);
    CHECK(r.bus_bandwidth == doctest::Approx(3000 / (r.communication_ms / 1e3)));
  }
  CHECK(beside.overlap > 0.5);
  CHECK(after.overlap < 0.05);
  // Where experts come after it, the pass's stream waits for the communication.
  CHECK(after.times[0][stage_phases].ms >= 25);
  CHECK(beside.times[0][stage_phases].ms < after.times[0][stage_phases].ms);
}

TEST_CASE("a profiled step: the same bits and memory, and no event made after the first")
{
  CudaProfiler profiler;
  WatchedPool plain_pool, pool;
  Step plain{Cuda(nullptr, {.resource = &plain_pool})};
  Step step{Cuda(nullptr, {.resource = &pool}).with(profiler)};
  plain.run();
  step.run();
  CHECK(step.bits() == plain.bits());
  CHECK(pool.asked() == plain_pool.asked());
  CHECK(pool.blocks() == plain_pool.blocks());

  step.exec.synchronize();
  profiler.end_step();
  auto const events = profiler.recorder()->clock.events();
  CHECK(events > 10);
  for (int i = 0; i < 20; ++i) {
    step.run();
    step.exec.synchronize();
    profiler.end_step();
  }
  CHECK(profiler.recorder()->clock.events() == events);
  auto const r = profiler.report();
  CHECK(r.steps == 21);
  CHECK(r.of(Phase::forward).calls == 1);
  CHECK(r.of(Phase::experts).calls == 3);
  CHECK(r.experts_ms > 0);
}

TEST_CASE("ending a step waits for nothing and leaves no error behind")
{
  CudaProfiler profiler;
  Cuda const exec = Cuda{}.with(profiler);
  spin(exec, 1);
  exec.synchronize();
  {
    auto const phase = exec.phase(Phase::experts);
    spin(exec, 200);
  }
  profiler.end_step();
  CHECK(cudaPeekAtLastError() == cudaSuccess);
  CHECK(cudaStreamQuery(exec.stream()) == cudaErrorNotReady);
  (void)cudaGetLastError();
  auto const r = profiler.report();  // waits
  CHECK(r.experts_ms >= 199);
}

TEST_CASE("a capture is left as it would be without, also by a report within it")
{
  auto const nodes_of = [](Step& step, CudaProfiler* profiler, cudaGraphExec_t* replay) {
    step.run();
    if (profiler != nullptr) { profiler->end_step(); }
    cudaStream_t const stream = step.exec.stream();
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    step.run();
    if (profiler != nullptr) {
      profiler->end_step();
      auto const r = profiler->report();
      CHECK(r.steps == 1);
      CHECK(r.of(Phase::forward).calls == 1);
      CHECK(r.bytes_sent == 0);
    }
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    std::size_t nodes = 0;
    REQUIRE(cudaGraphGetNodes(graph, nullptr, &nodes) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(replay, graph, 0) == cudaSuccess);
    REQUIRE(cudaGraphDestroy(graph) == cudaSuccess);
    return nodes;
  };
  CudaProfiler profiler;
  Step plain{Cuda{}}, step{Cuda{}.with(profiler)};
  cudaGraphExec_t plain_replay = nullptr, replay = nullptr;
  CHECK(nodes_of(step, &profiler, &replay) == nodes_of(plain, nullptr, &plain_replay));
  CHECK(cudaGraphLaunch(replay, step.exec.stream()) == cudaSuccess);
  CHECK(cudaGraphLaunch(plain_replay, plain.exec.stream()) == cudaSuccess);
  CHECK(step.bits() == plain.bits());
  step.run();
  CHECK(profiler.report().steps == 2);
  CHECK(cudaGraphExecDestroy(replay) == cudaSuccess);
  CHECK(cudaGraphExecDestroy(plain_replay) == cudaSuccess);
}

TEST_CASE("NVTX ranges, with times or alone")
{
  Step plain{Cuda{}};
  plain.run();
  for (bool const times : {true, false}) {
    CudaProfiler profiler({.times = times, .nvtx = true});
    Step step{Cuda{}.with(profiler)};
    step.run();
    CHECK(step.bits() == plain.bits());
    CHECK((profiler.recorder()->clock.events() > 0) == times);
    CHECK((profiler.report().of(Phase::experts).calls > 0) == times);
  }
}

TEST_CASE("a profiler is of one device")
{
  CudaProfiler profiler;
  Cuda const exec = Cuda{}.with(profiler);
  CHECK_NOTHROW((void)Cuda{}.with(profiler));
  CHECK_THROWS_WITH_AS(profiler.recorder()->clock.use_on(exec.device() + 1),
                       doctest::Contains("that of the profiler's other handles"),
                       StateError);
}

TEST_CASE("ranks that are threads with one GPU: a profiler each")
{
  ThreadWorld(2, {.deadline = std::chrono::seconds(60)}).run([](ThreadCommunicator const& comm) {
    CudaProfiler profiler;
    Cuda const exec = Cuda{}.with(profiler);
    Tensor<float, 1, Cuda> send(exec, 1 << 18), receive(exec, 1 << 18);
    exec.zero(send.view().data_handle(), send.bytes());
    for (int i = 0; i < 3; ++i) {
      comm.all_to_all(exec, send.const_view(), receive.view());
      profiler.end_step();
    }
    auto const r = profiler.report();
    CHECK(r.steps == 3);
    CHECK(r.bytes_sent == static_cast<double>(send.bytes() / 2));
    CHECK(r.of(Phase::communication).calls == 1);
    CHECK(r.communication_ms > 0);
    CHECK(r.bus_bandwidth > 0);
  });
}
