// Every capacity policy, dispatcher and the shared expert on Cuda against Host.
#include "support/parity.hpp"

using namespace moe;
using namespace moe::test;

namespace {

template <class CapacityT, class DispatcherT>
auto bounded(CapacityT const& capacity, DispatcherT const& dispatcher)
{
  return Layer{SoftmaxTopK<2>{}, capacity, dispatcher, Ffn<SwiGlu>{}};
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
