// Near misses of the capacity policy: each lacks one thing of the contract.
#include <moe/plan/drop_policy.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

using moe::CapacityPolicy, moe::index_t, moe::RoutingShape;

namespace {

// A whole model; the near misses hide or replace one member.
struct Whole {
  static constexpr bool bounded   = true;
  static constexpr int claim_bits = 5;
  [[nodiscard]] index_t slots(RoutingShape, index_t) const { return 1; }
  [[nodiscard]] index_t slots_bound(RoutingShape) const { return 1; }
  [[nodiscard]] bool needs_loads() const { return false; }
  [[nodiscard]] std::uint64_t claim(int, float, float) const { return 0; }
};
static_assert(CapacityPolicy<Whole>);

struct Unbounded {
  static constexpr bool bounded = false;
};
static_assert(CapacityPolicy<Unbounded>);

struct NothingNamed {};
static_assert(!CapacityPolicy<NothingNamed>);

struct OnlyBounded {
  static constexpr bool bounded = true;
};
static_assert(!CapacityPolicy<OnlyBounded>);

struct BoundedByState {
  bool bounded = true;  // known only at run time
};
static_assert(!CapacityPolicy<BoundedByState>);

struct SlotsAsInt : Whole {
  [[nodiscard]] int slots(RoutingShape, index_t) const { return 1; }
};
static_assert(!CapacityPolicy<SlotsAsInt> && !moe::HasSlots<SlotsAsInt> &&
              moe::HasClaim<SlotsAsInt>);

struct SlotsWithoutLoad : Whole {
  [[nodiscard]] index_t slots(RoutingShape) const { return 1; }
};
static_assert(!CapacityPolicy<SlotsWithoutLoad>);

struct SlotsNotConst : Whole {
  [[nodiscard]] index_t slots(RoutingShape, index_t) { return 1; }
};
static_assert(!CapacityPolicy<SlotsNotConst>);

struct NoBound : Whole {
  void slots_bound(RoutingShape) const {}
};
static_assert(!CapacityPolicy<NoBound>);

struct NoNeedsLoads : Whole {
  static constexpr int needs_loads = 0;
};
static_assert(!CapacityPolicy<NoNeedsLoads>);

struct SignedClaim : Whole {
  [[nodiscard]] std::int64_t claim(int, float, float) const { return 0; }
};
static_assert(!CapacityPolicy<SignedClaim> && moe::HasSlots<SignedClaim> &&
              !moe::HasClaim<SignedClaim>);

struct ClaimWithoutRowMaximum : Whole {
  [[nodiscard]] std::uint64_t claim(int, float) const { return 0; }
};
static_assert(!CapacityPolicy<ClaimWithoutRowMaximum>);

struct ClaimPastTheKey : Whole {
  static constexpr int claim_bits = 64;  // no room for the expert
};
static_assert(!CapacityPolicy<ClaimPastTheKey>);

struct ClaimBitsAtRunTime : Whole {
  int claim_bits = 5;
};
static_assert(!CapacityPolicy<ClaimBitsAtRunTime>);

struct OwnsMemory : Whole {
  std::vector<float> table;  // kernels take policies by value
};
static_assert(!CapacityPolicy<OwnsMemory>);

}  // namespace

TEST_CASE("every capacity policy of the library is a model with every rule")
{
  using namespace moe;
  static_assert(CapacityPolicy<Dropless>);
  static_assert(CapacityPolicy<DropByPosition<FloorCapacity>>);
  static_assert(CapacityPolicy<DropByWeight<TutelCapacity>>);
  static_assert(CapacityPolicy<DropByTokenPriority<FastMoeCapacity>>);
  static_assert(CapacityPolicy<DropByPosition<MeshTfCapacity>>);
  static_assert(CapacityPolicy<DropByWeight<FixedCapacity>>);
  CHECK(Whole{}.slots({}, 0) == 1);
}
