// Whole layers, forward and backward: router x capacity x dispatcher x expert kernel on named
// shapes.
#include "main.hpp"

namespace moe_bench {
void add_swiglu_policies();
void add_gelu_policies();
}  // namespace moe_bench

namespace {

void add_all()
{
  moe_bench::add_swiglu_policies();
  moe_bench::add_gelu_policies();
}

}  // namespace

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv, &add_all);
}
