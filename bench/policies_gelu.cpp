#include "policies.hpp"

namespace moe_bench {

void add_gelu_policies()
{
  add_policies(MOE_BENCH_NAMED(moe::Ffn<moe::Gelu>));
}

}  // namespace moe_bench
