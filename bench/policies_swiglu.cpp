#include "policies.hpp"

namespace moe_bench {

void add_swiglu_policies()
{
  add_policies(MOE_BENCH_NAMED(moe::Ffn<moe::SwiGlu>));
}

}  // namespace moe_bench
