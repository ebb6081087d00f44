// Every capacity policy, dispatcher, activation and the shared expert on Cuda against Host.
#include "support/parity.hpp"

using namespace moe;
using namespace moe::test;

namespace {

template <class CapacityT, class DispatcherT>
auto bounded(CapacityT const& capacity, DispatcherT const& dispatcher)
{
  return Layer{SoftmaxTopK<2>{}, capacity, dispatcher, Ffn<SwiGlu>{}};
}
template <class ExpertT>
auto with_expert(ExpertT const& expert)
{
  return Layer{SoftmaxTopK<2, renormalized>{}, Dropless{}, BatchedDispatcher{}, expert};
}

}  // namespace

TEST_CASE("capacities and dispatchers")
{
  check_parity("by position, padded", [](auto const&) {
    return bounded(DropByPosition{CeilCapacity{.factor = 0.8}}, BatchedDispatcher{});
  });
  check_parity("by weight, ragged", [](auto const&) {
    return bounded(DropByWeight{FixedCapacity{9}}, BatchedDispatcher<BatchedSchedule>{});
  });
  check_parity("by token priority, serial", [](auto const&) {
    return bounded(DropByTokenPriority{FloorCapacity{.factor = 0.7}}, SerialDispatcher{});
  });
  check_parity("Tutel's factor 0", [](auto const&) {
    return bounded(DropByPosition{TutelCapacity{.factor = 0}}, BatchedDispatcher{});
  });
  check_parity("renormalised after drops", [](auto const&) {
    return Layer{RenormalizeKept{SoftmaxTopK<3>{}},
                 DropByPosition{FixedCapacity{12}},
                 BatchedDispatcher{},
                 Ffn<SwiGlu>{}};
  });
  check_parity("dropless, serial", [](auto const&) {
    return Layer{SoftmaxTopK<2>{}, Dropless{}, SerialDispatcher{}, Ffn<GeGlu, with_bias>{}};
  });
}

TEST_CASE("activations")
{
  check_parity("ReLU", [](auto const&) { return with_expert(Ffn<Relu, with_bias>{}); });
  check_parity("squared ReLU", [](auto const&) { return with_expert(Ffn<SquaredRelu>{}); });
  check_parity("GELU", [](auto const&) { return with_expert(Ffn<Gelu, with_bias>{}); });
  check_parity("SiLU", [](auto const&) { return with_expert(Ffn<Silu>{}); });
  check_parity("GeGLU", [](auto const&) { return with_expert(Ffn<GeGlu>{}); });
  check_parity("clamped", [](auto const&) { return with_expert(Ffn<ClampedGlu, with_bias>{}); });
  // Odd extents: nothing is aligned for 16-byte accesses.
  check_parity(
      "odd",
      [](auto const&) { return with_expert(Ffn<SwiGlu, with_bias>{}); },
      ffn_sizes,
      ParityShape{.tokens = 65, .hidden = 7, .experts = 5, .ffn = 9});
}

TEST_CASE("shared experts")
{
  auto const sizes = [](auto& sizes, ParityShape const& s) {
    sizes.expert.ffn        = s.ffn;
    sizes.shared.expert.ffn = 16;
  };
  check_parity(
      "ungated",
      [](auto const&) {
        return Layer{SoftmaxTopK<2, renormalized>{},
                     Dropless{},
                     BatchedDispatcher{},
                     Ffn<SwiGlu>{},
                     SharedExpert<Ffn<SwiGlu>>{}};
      },
      sizes);
  check_parity(
      "gated",
      [](auto const&) {
        return Layer{SoftmaxTopK<2, renormalized>{},
                     Dropless{},
                     BatchedDispatcher{},
                     Ffn<SwiGlu>{},
                     SharedExpert<Ffn<SwiGlu>, sigmoid_gated>{}};
      },
      sizes);
}
