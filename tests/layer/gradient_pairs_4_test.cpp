// Compile at -O1: many layers, little work in each.
// Gradients of layers in which every two policies meet, part 4 of 4.
#include <support/layer_pairs.hpp>

TEST_CASE("gradients of compositions 53 to 70")
{
  moe::test::check_compositions<53, moe::test::covering_compositions.size()>();
}
