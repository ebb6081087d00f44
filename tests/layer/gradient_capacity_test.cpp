// Compile at -O1: many layers, little work in each.
// Gradients of layers that drop: every capacity rule with every order of claims, and every
// schedule.
#include <support/layer_gradient.hpp>

using namespace moe;
using namespace moe::test;

namespace {

template <class CapacityT, class DispatcherT = BatchedDispatcher<>>
void check_capacity(std::string const& name,
                    CapacityT const& capacity,
                    bool drops                    = true,
                    DispatcherT const& dispatcher = {})
{
  check_layer_gradient(name,
                       Layer{SoftmaxTopK<2, renormalized>{}, capacity, dispatcher, Ffn<SwiGlu>{}},
                       {.drops = drops});
}

// 11 tokens with two of six experts each: 22 assignments, 3.67 per expert.
template <template <class> class DropT>
void check_rules()
{
  check_capacity("floor", DropT<FloorCapacity>{{FloorCapacity{.factor = 1}}});
  check_capacity("floor, aligned",
                 DropT<FloorCapacity>{{FloorCapacity{.factor = 0.3, .alignment = 2}}});
  check_capacity("ceil", DropT<CeilCapacity>{{CeilCapacity{.factor = 0.6}}});
  check_capacity("ceil, minimum", DropT<CeilCapacity>{{CeilCapacity{.factor = 0, .minimum = 2}}});
  check_capacity("ceil, aligned",
                 DropT<CeilCapacity>{{CeilCapacity{.factor = 0.3, .alignment = 3}}});
  check_capacity("Tutel, factor", DropT<TutelCapacity>{{TutelCapacity{.factor = 0.5}}});
  check_capacity(
      "Tutel, the largest load", DropT<TutelCapacity>{{TutelCapacity{.factor = 0}}}, false);
  check_capacity("Tutel, at most", DropT<TutelCapacity>{{TutelCapacity{.factor = -0.5}}});
  check_capacity("FastMoE", DropT<FastMoeCapacity>{{FastMoeCapacity{.rate = 0.8}}});
  check_capacity("Mesh-TensorFlow", DropT<MeshTfCapacity>{{MeshTfCapacity{.factor = 1}}});
  check_capacity("fixed", DropT<FixedCapacity>{{FixedCapacity{.value = 1}}});
}

}  // namespace

TEST_CASE("by position")
{
  check_rules<DropByPosition>();
}
TEST_CASE("by weight")
{
  check_rules<DropByWeight>();
}
TEST_CASE("by token priority")
{
  check_rules<DropByTokenPriority>();
}

TEST_CASE("schedules, with drops and without")
{
  DropByPosition const position{CeilCapacity{.factor = 0.7}};
  check_capacity("serial", position, true, SerialDispatcher{});
  check_capacity("ragged", position, true, BatchedDispatcher<BatchedSchedule>{});
  check_capacity("padded", position, true, BatchedDispatcher<PaddedSchedule>{});
  check_capacity("serial, dropless", Dropless{}, false, SerialDispatcher{});
  check_capacity("batched, dropless", Dropless{}, false);
  check_capacity("ragged, dropless", Dropless{}, false, BatchedDispatcher<BatchedSchedule>{});
}

TEST_CASE("weights renormalised over what was kept")
{
  RenormalizeKept const router{SoftmaxTopK<3>{}};
  check_layer_gradient(
      "three choices, one slot",
      Layer{router, DropByWeight{FixedCapacity{2}}, BatchedDispatcher<>{}, Ffn<SwiGlu>{}},
      {.drops = true, .all_components = true});
}
