// Compile at -O1: many layers, little work in each.
// Gradients of layers in which every two policies meet, part 2 of 4.
#include <support/layer_pairs.hpp>

TEST_CASE("gradients of compositions 17 to 34")
{
  moe::test::check_compositions<17, 35>();
}
