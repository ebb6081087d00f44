// Compile at -O1: many layers, little work in each.
// Gradients of layers in which every two policies meet, part 1 of 4.
#include <support/layer_pairs.hpp>

#include <set>

using namespace moe::test;

TEST_CASE("every two policies that go together meet")
{
  std::set<std::array<int, 4>> met;
  for (auto const& composition : covering_compositions) {
    auto const n = composition.numbers();
    for (int a = 0; a < 7; ++a) {
      for (int b = a + 1; b < 7; ++b) {
        met.insert({a, n[static_cast<std::size_t>(a)], b, n[static_cast<std::size_t>(b)]});
      }
    }
  }
  for (int a = 0; a < 7; ++a) {
    for (int b = a + 1; b < 7; ++b) {
      for (int i = 0; i < policy_counts[static_cast<std::size_t>(a)]; ++i) {
        for (int j = 0; j < policy_counts[static_cast<std::size_t>(b)]; ++j) {
          CAPTURE(a);
          CAPTURE(b);
          CAPTURE(i);
          CAPTURE(j);
          CHECK(met.contains({a, i, b, j}) != excluded_pair(a, i, b, j));
        }
      }
    }
  }
}

TEST_CASE("gradients of compositions 0 to 16")
{
  moe::test::check_compositions<0, 17>();
}
