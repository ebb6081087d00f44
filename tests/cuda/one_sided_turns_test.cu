// Rows stored into windows of peers, one kernel at a time: what compute-sanitizer can run.
#include <moe/moe.cuh>

#include <chrono>

#include <doctest/doctest.h>

#include "support/rank_gpus.hpp"
#include "support/rank_step.hpp"
#include "support/shared_gpu.hpp"

using namespace moe;
using namespace moe::test;

namespace {

RankStep<float> at(int ranks, StepBatch const& batch, int chunks)
{
  auto const first = first_tokens(batch.tokens, 1, ranks, /*even*/ false);
  return together(at_ranks<float>(ranks, [&](ThreadCommunicator const& comm) {
    Cuda const exec = cuda_of(comm, {.products = Products::own});
    OneSidedExchange<Cuda> const exchange(
        {.tokens  = batch.tokens,
         .choices = 2 * batch.tokens,
         .window  = {.deadline = std::chrono::minutes(4), .one_kernel_at_a_time = true}});
    Layer const layer{SoftmaxTopK<2>{},
                      Dropless{},
                      AllToAllDispatcher{comm, {.chunks = chunks}, BatchedSchedule{}, exchange},
                      Ffn<SwiGlu>{}};
    auto const r = static_cast<std::size_t>(comm.rank());
    return run_step<float>(
        layer,
        exec,
        {.hidden = batch.hidden, .experts = 5, .expert = {.ffn = 9}},
        batch,
        first[r],
        first[r + 1] - first[r],
        [&](auto const& l, auto const& grads) { l.all_reduce_gradients(exec, grads); });
  }));
}

}  // namespace

TEST_CASE("ranks that take turns on the GPU: the bits of one rank")
{
  for (index_t const hidden : {20, 18}) {  // rows that are aligned, and not
    CAPTURE(hidden);
    StepBatch const batch(23, 23, hidden);
    auto const one = at(1, batch, 1);
    for (int const P : {2, 3}) {
      CAPTURE(P);
      auto const all = at(P, batch, P - 1);
      CHECK(same_bytes(all.y, one.y));
      CHECK(same_bytes(all.dx, one.dx));
      CHECK(same_bytes(all.experts, one.experts));
    }
  }
}
