// Compile at -O1: many layers, little work in each.
// Gradients of layers in which every two policies meet, part 3 of 4.
#include <support/layer_pairs.hpp>

TEST_CASE("gradients of compositions 35 to 52")
{
  moe::test::check_compositions<35, 53>();
}
