// Whole layers, forward and backward: router x capacity x dispatcher x expert kernel on named
// shapes.
#include <benchmark/benchmark.h>

namespace moe_bench {
void add_swiglu_policies();
void add_gelu_policies();
}  // namespace moe_bench

int main(int argc, char** argv)
{
  moe_bench::add_swiglu_policies();
  moe_bench::add_gelu_policies();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) { return 1; }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
