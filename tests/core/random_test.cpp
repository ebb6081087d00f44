// The ends of the counter-based random numbers; their known answers and moments are in
// route/random_test.cpp.
#include <moe/core/random.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>

using moe::normal_from, moe::uniform_from;

namespace {

static_assert(moe::philox4x32({{1, 2, 3, 4}}, {{5, 6}}) ==
              moe::philox4x32({{1, 2, 3, 4}}, {{5, 6}}));  // at compile time too

std::uint32_t const words[] = {0u, 1u, 0x1ffu, 0x200u, 0x7fffffffu, 0x80000000u, ~0u - 1, ~0u};

}  // namespace

TEST_CASE_TEMPLATE("uniform numbers are inside (0, 1), cells in order and of one width",
                   S,
                   float,
                   double)
{
  S const cell = sizeof(S) == sizeof(float) ? S(0x1p-23) : S(0x1p-52);
  CHECK(uniform_from<S>(0, 0) == cell / 2);
  CHECK(uniform_from<S>(~0u, ~0u) == S{1} - cell / 2);
  CHECK(uniform_from<S>(~0u, ~0u) < S{1});
  if (sizeof(S) == sizeof(float)) {
    CHECK(uniform_from<S>(0x1ff, ~0u) == cell / 2);  // 23 of the 32 bits count
    CHECK(uniform_from<S>(0x200, 0) == cell * S(1.5));
  } else {
    CHECK(uniform_from<S>(0, 0xfff) == cell / 2);  // 52 of the 64
    CHECK(uniform_from<S>(0, 0x1000) == cell * S(1.5));
  }
  CHECK(uniform_from<S>(0x80000000u, 0) == S(0.5) + cell / 2);
}

TEST_CASE_TEMPLATE("normal numbers are finite whatever the bits, and are Box and Muller's",
                   S,
                   float,
                   double)
{
  double largest = 0;
  for (auto const a : words) {
    for (auto const b : words) {
      for (auto const c : words) {
        double const z = normal_from<S>({{a, b, c, 77}});
        CHECK(std::isfinite(z));
        largest        = std::max(largest, std::abs(z));
        double const u = uniform_from<S>(a, b), v = uniform_from<S>(c, 77);
        double const expected = std::sqrt(-2 * std::log(u)) * std::cos(2 * std::acos(-1.0) * v);
        // near u = 1 the logarithm takes what rounding u left
        CHECK(std::abs(z - expected) < (sizeof(S) == sizeof(float) ? 1e-5 : 1e-13));
      }
    }
  }
  CHECK(largest > 5);
  CHECK(largest < 9);
}
