// Compile at -O1: many layers, little work in each.
// Gradients of every router with every capacity policy and both dispatchers: routers 6 and 7.
#include <support/layer_product.hpp>

TEST_CASE("router 6 x capacity x dispatcher")
{
  moe::test::check_product<6>();
}
TEST_CASE("router 7 x capacity x dispatcher")
{
  moe::test::check_product<7>();
}

TEST_CASE("expert choice, which has a capacity of its own, x dispatcher")
{
  using namespace moe::test;
  check_product_at<expert_choice_router, 0, 0>();
  check_product_at<expert_choice_router, 0, 1>();
}
