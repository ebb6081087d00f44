// Every router, gate and loss on Cuda against Host.
#include "support/parity.hpp"

using namespace moe;
using namespace moe::test;

namespace {

// A layer of that router, everything else plain.
template <class RouterT>
auto plain(RouterT const& router)
{
  return Layer{router, Dropless{}, BatchedDispatcher{}, Ffn<SwiGlu>{}};
}
template <class GateT>
auto gated(GateT const& gate)
{
  return Layer{
      SoftmaxTopK<2, renormalized>{}, Dropless{}, BatchedDispatcher{}, Ffn<SwiGlu>{}, gate};
}

}  // namespace

TEST_CASE("routers by scores")
{
  check_parity("softmax, renormalised",
               [](auto const&) { return plain(SoftmaxTopK<2, renormalized>{}); });
  check_parity("softmax", [](auto const&) { return plain(SoftmaxTopK<3>{.scale = 2}); });
  check_parity("softmax after", [](auto const&) { return plain(TopKSoftmax<8>{}); });
  check_parity("switch", [](auto const&) { return plain(SwitchRouter{}); });
  check_parity("sqrt softplus",
               [](auto const&) { return plain(SqrtSoftplusTopK<2, renormalized>{}); });
}

TEST_CASE("sigmoid with selection bias and groups")
{
  std::vector<double> const bias{0, 0.3, -0.2, 0, 0.5, 0, 0, -0.4};
  auto const on_host = put<float>(Host{}, bias, 8);
  PlainMemory memory;  // the layers have streams of their own
  Cuda const beside(nullptr, {.resource = &memory});
  auto const on_cuda = put<float>(beside, bias, 8);
  beside.synchronize();
  check_parity("sigmoid", [&]<class ExecT>(ExecT const&) {
    SigmoidTopK<3, renormalized, group_limited<top2_sum>, ExecT> router{
        .scale = 2.5, .group = {.groups = 4, .kept = 2}};
    if constexpr (std::is_same_v<ExecT, Host>) {
      router.bias = on_host.const_view();
    } else {
      router.bias = on_cuda.const_view();
    }
    return plain(router);
  });
}

TEST_CASE("noise, expert choice, given routing")
{
  check_parity("noisy", [](auto const&) { return plain(NoisyTopK<2>{}); });
  check_parity("expert choice", [](auto const&) { return plain(ExpertChoice{.factor = 1.5}); });
  check_parity("given", [](auto const&) { return plain(GivenRouting<3>{}); });
}

TEST_CASE("gates")
{
  check_parity("biased", [](auto const&) { return gated(BiasedLinearGate{}); });
  check_parity(
      "low rank",
      [](auto const&) { return gated(LowRankGate{}); },
      [](auto& sizes, ParityShape const& s) {
        sizes.expert.ffn = s.ffn;
        sizes.gate.rank  = 5;
      });
  check_parity(
      "tempered cosine",
      [](auto const&) { return gated(TemperedGate<CosineGate>{}); },
      [](auto& sizes, ParityShape const& s) {
        sizes.expert.ffn      = s.ffn;
        sizes.gate.projection = 12;
      });
}

TEST_CASE("losses")
{
  check_parity(
      "all of them",
      [](auto const&) {
        return Layer{SoftmaxTopK<2, renormalized>{},
                     Dropless{},
                     BatchedDispatcher{},
                     Ffn<Silu>{},
                     SwitchLoss{},
                     GShardLoss{},
                     GShardPaperLoss{},
                     MixtralLoss{},
                     MiniMindSequenceLoss{},
                     DeepSeekSequenceLoss{},
                     RouterZLoss{}};
      },
      ffn_sizes,
      ParityShape{.tokens = 66, .sequences = 3});
}
