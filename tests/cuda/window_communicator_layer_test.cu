// A layer over ranks, whose counts are summed over a window: the bits of the same
// layer over the inner communicator.
#include <moe/comm/window_communicator.hpp>

#include <chrono>
#include <vector>

#include <doctest/doctest.h>

#include "support/cuda_rank_layer.hpp"
#include "support/rank_gpus.hpp"
#include "support/shared_gpu.hpp"

using namespace moe;
using namespace moe::test;
namespace rank_layer = moe::test::rank_layer;

namespace {

auto capacity()
{
  return DropByWeight{CeilCapacity{.factor = 0.6}};
}

template <class MakeComm>
std::vector<rank_layer::Pass<float>> passes_over(Batch<float> const& whole,
                                                 int P,
                                                 MakeComm const& make)
{
  std::vector<rank_layer::Pass<float>> passes(static_cast<std::size_t>(P));
  ThreadWorld(P, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& thread) {
    Cuda const exec = cuda_of(thread).with_own_products();  // no library asks for memory on its way
    auto const comm = make(exec, thread);
    AllToAllDispatcher const dispatcher(comm);
    index_t const first = rank_layer::tokens * comm.rank() / P;
    passes[static_cast<std::size_t>(comm.rank())] =
        rank_layer::run_rank<float>(rank_layer::layer_of(capacity(), dispatcher),
                                    exec,
                                    whole,
                                    first,
                                    rank_layer::tokens * (comm.rank() + 1) / P - first,
                                    dispatcher.experts_here(rank_layer::sizes.experts));
  });
  return passes;
}

}  // namespace

TEST_CASE("a layer over it has the bits of one over the inner communicator")
{
  auto const whole = Batch<float>::make(rank_layer::layer_of(capacity(), BatchedDispatcher<>{}),
                                        rank_layer::sizes,
                                        rank_layer::tokens,
                                        3);
  for (int const P : {2, 3}) {
    CAPTURE(P);
    auto const inner =
        passes_over(whole, P, [](Cuda const&, ThreadCommunicator const& comm) { return comm; });
    auto const small = passes_over(whole, P, [](Cuda const& exec, ThreadCommunicator const& comm) {
      return WindowCommunicator(exec, comm);
    });
    for (std::size_t r = 0; r < inner.size(); ++r) {
      CHECK(same_bits(small[r].y, inner[r].y));
      CHECK(same_bits(small[r].evaluated, inner[r].evaluated));
      CHECK(same_bits(small[r].dx, inner[r].dx));
      CHECK(same_bits(small[r].expert_grads, inner[r].expert_grads));
    }
  }
}
