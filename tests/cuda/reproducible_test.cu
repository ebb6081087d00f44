// With ReproducibleReduction a layer over ranks has the bits of one rank in
// everything: gradients, losses, outputs, and the gradient's norm.
#include <moe/moe.cuh>

#include <doctest/doctest.h>

#include "support/rank_gpus.hpp"
#include "support/rank_step.hpp"

using moe::BFloat16, moe::Cuda, moe::index_t, moe::ThreadCommunicator;
using namespace moe::test;

namespace {

constexpr index_t T = 100, D = 64, length = 4, block = 16;  // the last block is short

template <class DispatcherT, class GateT>
auto layer_of(DispatcherT const& dispatcher, GateT gate)
{
  return moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                    moe::Dropless{},
                    dispatcher,
                    moe::Ffn<moe::SwiGlu>{},
                    moe::ReproducibleReduction{.block = block},
                    gate,
                    moe::SharedExpert{moe::Ffn<moe::SwiGlu>{}, moe::sigmoid_gated{}},
                    moe::SwitchLoss{.coeff = 1e-1},
                    moe::DeepSeekSequenceLoss{.coeff = 1e-1},
                    moe::RouterZLoss{.coeff = 1e-1}};
}

template <class E, class GateT>
void check_worlds(GateT gate)
{
  StepBatch const batch(T, length, D);
  auto const run = [&](auto const& layer, index_t first, index_t count) {
    Cuda const exec;  // a handle, so a stream, of each rank's own; cuBLAS would be its default
    typename std::decay_t<decltype(layer)>::Sizes sizes{
        .hidden = D, .experts = 6, .expert = {.ffn = 40}};
    sizes.shared.expert.ffn = 24;
    return run_step<E>(
        layer, exec, sizes, batch, first, count, [&](auto const& of, auto const& grads) {
          of.all_reduce_gradients(exec, grads);  // nothing more to sum
        });
  };
  auto const one = run(layer_of(moe::BatchedDispatcher<moe::BatchedSchedule>{}, gate), 0, T);
  CHECK(one.norm > 0);
  for (int const P : {1, 2, 3, 4}) {
    for (bool const even : {true, false}) {
      CAPTURE(P);
      CAPTURE(even);
      auto const first = first_tokens(T, block, P, even);
      auto const steps = at_ranks<E>(P, [&](ThreadCommunicator const& comm) {
        auto const r = static_cast<std::size_t>(comm.rank());
        use_gpu_of(comm.rank(), P);
        return run(
            layer_of(moe::AllToAllDispatcher{comm}, gate), first[r], first[r + 1] - first[r]);
      });
      auto const all   = together(steps);
      CHECK(same_bytes(all.y, one.y));
      CHECK(same_bytes(all.dx, one.dx));
      CHECK(same_bytes(all.losses, one.losses));
      CHECK(same_bytes(all.beside, one.beside));
      CHECK(same_bytes(all.experts, one.experts));
      CHECK(all.norm == one.norm);
      for (auto const& s : steps) {
        CHECK(same_bytes(s.beside, steps[0].beside));
        CHECK(same_bytes(s.losses, steps[0].losses));
        CHECK(s.norm == one.norm);
      }
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("the same bits for any number of ranks", E, float, BFloat16)
{
  check_worlds<E>(moe::LinearGate{});
}

TEST_CASE("with a gate that sums over tokens in other ways")
{
  check_worlds<float>(moe::BiasedLinearGate{});
}
