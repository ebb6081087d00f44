// Compile at -O1: many layers, little work in each.
// Gradients of every router with every capacity policy and both dispatchers: routers 0 and 1.
#include <support/layer_product.hpp>

TEST_CASE("router 0 x capacity x dispatcher")
{
  moe::test::check_product<0>();
}
TEST_CASE("router 1 x capacity x dispatcher")
{
  moe::test::check_product<1>();
}
