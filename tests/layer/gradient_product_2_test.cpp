// Compile at -O1: many layers, little work in each.
// Gradients of every router with every capacity policy and both dispatchers: routers 2 and 3.
#include <support/layer_product.hpp>

TEST_CASE("router 2 x capacity x dispatcher")
{
  moe::test::check_product<2>();
}
TEST_CASE("router 3 x capacity x dispatcher")
{
  moe::test::check_product<3>();
}
