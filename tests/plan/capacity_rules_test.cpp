#include <moe/plan/drop_policy.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

using moe::CeilCapacity, moe::DropByPosition, moe::FastMoeCapacity, moe::FixedCapacity,
    moe::FloorCapacity, moe::MeshTfCapacity, moe::RoutingShape, moe::TutelCapacity, moe::index_t;

TEST_CASE("the same request is another capacity in every system")
{
  struct Row {
    RoutingShape shape;  // T, E, K
    double factor;
    index_t tutel, deep_speed, deep_speed_4, megatron, megablocks, fastmoe, vmoe, mesh_tf;
  };
  Row const table[] = {
      {{10, 4, 2}, 1.25, 6, 7, 7, 7, 6, 6, 8, 4},
      {{16, 4, 2}, 1.0, 8, 8, 8, 8, 8, 8, 8, 4},
      {{128, 8, 1}, 1.25, 20, 20, 20, 20, 20, 20, 20, 20},
      {{100, 8, 2}, 1.0, 26, 25, 25, 25, 25, 25, 28, 12},
      {{4096, 64, 8}, 1.25, 640, 640, 640, 640, 640, 640, 640, 80},
      {{7, 4, 1}, 1.0, 2, 2, 4, 2, 1, 1, 4, 4},
      {{1000, 16, 4}, 1.1, 276, 275, 275, 275, 275, 275, 276, 68},
  };
  for (auto const& r : table) {
    CAPTURE(r.shape.tokens);
    auto const slots = [&](auto rule) { return DropByPosition{rule}.slots(r.shape, 0); };
    CHECK(slots(TutelCapacity{.factor = r.factor}) == r.tutel);
    CHECK(slots(CeilCapacity{.factor = r.factor, .minimum = 1}) == r.deep_speed);
    CHECK(slots(CeilCapacity{.factor = r.factor, .minimum = 4}) == r.deep_speed_4);
    CHECK(slots(CeilCapacity{.factor = r.factor}) == r.megatron);
    CHECK(slots(FloorCapacity{.factor = r.factor}) == r.megablocks);
    CHECK(slots(FastMoeCapacity{.rate = r.factor}) == r.fastmoe);
    CHECK(slots(CeilCapacity{.factor = r.factor, .alignment = 4}) == r.vmoe);
    CHECK(slots(MeshTfCapacity{.factor = r.factor}) == r.mesh_tf);
  }
}

TEST_CASE("Tutel: factor 0 is the largest load, a negative one the smaller of both")
{
  RoutingShape const shape{100, 8, 2};  // factor 1: 2 * 13 = 26 slots
  for (index_t const load : {0, 1, 25, 26, 27, 99, 200}) {
    CAPTURE(load);
    CHECK(DropByPosition{TutelCapacity{.factor = 0}}.slots(shape, load) == load);
    CHECK(DropByPosition{TutelCapacity{.factor = -1}}.slots(shape, load) ==
          (load < 26 ? load : 26));
    CHECK(DropByPosition{TutelCapacity{.factor = 1}}.slots(shape, load) == 26);
    CHECK(DropByPosition{TutelCapacity{.factor = 0, .alignment = 16}}.slots(shape, load) ==
          (load + 15) / 16 * 16);
  }
  CHECK(DropByPosition{TutelCapacity{.factor = 0}}.needs_loads());
  CHECK(DropByPosition{TutelCapacity{.factor = -2}}.needs_loads());
  CHECK_FALSE(DropByPosition{TutelCapacity{.factor = 2}}.needs_loads());
  CHECK_FALSE(DropByPosition{CeilCapacity{}}.needs_loads());
  // What the host must allocate before it knows the loads.
  CHECK(DropByPosition{TutelCapacity{.factor = 0}}.slots_bound(shape) == 200);
  CHECK(DropByPosition{TutelCapacity{.factor = -1}}.slots_bound(shape) == 26);
  CHECK(DropByPosition{TutelCapacity{.factor = 1}}.slots_bound(shape) == 26);
}

TEST_CASE("capacity is rounded up to its alignment, never down and never past the next multiple")
{
  for (index_t const alignment : {1, 2, 3, 8, 16, 128}) {
    for (index_t tokens = 0; tokens < 300; tokens += 7) {
      RoutingShape const shape{tokens, 5, 3};
      CAPTURE(alignment);
      CAPTURE(tokens);
      index_t const all = 3 * tokens;  // an expert cannot get more
      auto const check  = [&](auto aligned, auto plain) {
        index_t const c     = DropByPosition{aligned}.slots(shape, 0);
        index_t const least = DropByPosition{plain}.slots(shape, 0);
        CHECK(c % alignment == 0);
        CHECK(c >= least);
        CHECK(c < least + alignment);
        CHECK(c < all + alignment);
      };
      check(CeilCapacity{.factor = 1.3, .alignment = alignment}, CeilCapacity{.factor = 1.3});
      check(CeilCapacity{.factor = 1, .minimum = 4, .alignment = alignment},
            CeilCapacity{.factor = 1, .minimum = 4});
      check(FloorCapacity{.factor = 1.3, .alignment = alignment}, FloorCapacity{.factor = 1.3});
      check(TutelCapacity{.factor = 1.3, .alignment = alignment}, TutelCapacity{.factor = 1.3});
      check(CeilCapacity{.factor = 99, .alignment = alignment}, CeilCapacity{.factor = 99});
    }
  }
}

namespace {

// The field, value and limit that check() refuses a rule with, or "".
template <class RuleT>
std::string refusal(RuleT const& rule)
{
  try {
    DropByPosition{rule}.check(moe::Check{"moe::Layer"});
  } catch (moe::ValueError const& e) {
    return e.field + " is " + e.value + ", must be " + e.limit;
  }
  return "";
}

}  // namespace

TEST_CASE("a capacity that makes no sense is refused with field, value and limit")
{
  double const nan = std::numeric_limits<double>::quiet_NaN();
  double const inf = std::numeric_limits<double>::infinity();
  for (double const bad : {nan, inf, -inf, -1.0, -1e-9}) {
    std::string const expected =
        "capacity factor is " + std::to_string(bad) + ", must be finite and at least 0";
    CHECK(refusal(CeilCapacity{.factor = bad}) == expected);
    CHECK(refusal(FloorCapacity{.factor = bad}) == expected);
    CHECK(refusal(FastMoeCapacity{.rate = bad}) == expected);
    CHECK(refusal(MeshTfCapacity{.factor = bad}) == expected);
  }
  for (double const bad : {nan, inf, -inf}) {
    CHECK(refusal(TutelCapacity{.factor = bad}) ==
          "capacity factor is " + std::to_string(bad) + ", must be finite");
  }
  CHECK(refusal(TutelCapacity{.factor = -1}).empty());
  CHECK(refusal(CeilCapacity{.factor = 0}).empty());
  CHECK(refusal(CeilCapacity{.minimum = -1}) == "capacity minimum is -1, must be at least 0");
  CHECK(refusal(FixedCapacity{.value = -1}) == "capacity is -1, must be at least 0");
  CHECK(refusal(FixedCapacity{.value = 0}).empty());
  for (index_t const bad : {index_t{0}, index_t{-8}}) {
    std::string const expected =
        "capacity alignment is " + std::to_string(bad) + ", must be at least 1";
    CHECK(refusal(CeilCapacity{.alignment = bad}) == expected);
    CHECK(refusal(FloorCapacity{.alignment = bad}) == expected);
    CHECK(refusal(TutelCapacity{.alignment = bad}) == expected);
  }
  CHECK(refusal(CeilCapacity{.alignment = index_t{1} << 40}) ==
        "capacity alignment is 1099511627776, must be at most the largest 32-bit id (2147483647)");
}

TEST_CASE("a huge capacity needs no more slots than there are assignments")
{
  RoutingShape const shape{4096, 64, 8};
  index_t const all  = 4096 * 8;
  double const nan   = std::numeric_limits<double>::quiet_NaN();
  auto const bounded = [&](auto rule) {
    DropByPosition const policy{rule};
    CHECK(policy.slots(shape, all) == all);
    CHECK(policy.slots_bound(shape) == all);
  };
  for (double const factor : {16384.0, 1e18, 1e300, nan}) {
    CAPTURE(factor);
    bounded(CeilCapacity{.factor = factor});
    bounded(FloorCapacity{.factor = factor});
    bounded(TutelCapacity{.factor = factor});
    bounded(FastMoeCapacity{.rate = factor});
    bounded(FixedCapacity{.value = std::numeric_limits<index_t>::max()});
  }
  // This rule stops at T by itself.
  CHECK(DropByPosition{MeshTfCapacity{.factor = 1e300}}.slots_bound(shape) == 4096);
  CHECK(DropByPosition{CeilCapacity{.factor = 1, .minimum = index_t{1} << 60}}.slots_bound(shape) ==
        all);
  CHECK_THROWS_AS(static_cast<void>(DropByPosition{CeilCapacity{}}.slots(
                      {std::numeric_limits<index_t>::max() / 2, 4, 8}, 0)),
                  moe::OverflowError);
  for (index_t const load : {0, 7}) {  // no tokens, no slots, whatever the minimum
    CHECK(DropByPosition{CeilCapacity{.minimum = 4}}.slots({0, 4, 2}, load) == 0);
    CHECK(DropByPosition{MeshTfCapacity{}}.slots({0, 4, 2}, load) == 0);
  }
}

TEST_CASE("a larger capacity factor never gives fewer slots")
{
  for (RoutingShape const shape : {RoutingShape{100, 8, 2}, {7, 4, 1}, {1000, 256, 8}, {1, 1, 1}}) {
    auto const ascends = [&](auto rule_of) {
      index_t before = 0;
      for (int i = 0; i <= 400; ++i) {
        index_t const c = DropByPosition{rule_of(i / 100.0)}.slots(shape, 0);
        CHECK(c >= before);
        before = c;
      }
    };
    ascends([](double f) { return CeilCapacity{.factor = f}; });
    ascends([](double f) { return FloorCapacity{.factor = f}; });
    ascends([](double f) { return TutelCapacity{.factor = f + 0.01}; });
    ascends([](double f) { return FastMoeCapacity{.rate = f}; });
    ascends([](double f) { return MeshTfCapacity{.factor = f}; });
  }
}
