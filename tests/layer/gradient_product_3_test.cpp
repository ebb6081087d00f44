// Compile at -O1: many layers, little work in each.
// Gradients of every router with every capacity policy and both dispatchers: routers 4 and 5.
#include <support/layer_product.hpp>

TEST_CASE("router 4 x capacity x dispatcher")
{
  moe::test::check_product<4>();
}
TEST_CASE("router 5 x capacity x dispatcher")
{
  moe::test::check_product<5>();
}
