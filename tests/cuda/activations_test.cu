// Every activation on Cuda against Host.
#include "support/parity.hpp"

using namespace moe;
using namespace moe::test;

namespace {

template <class ExpertT>
auto with_expert(ExpertT const& expert)
{
  return Layer{SoftmaxTopK<2, renormalized>{}, Dropless{}, BatchedDispatcher{}, expert};
}

}  // namespace

// Each in one type of 16 bits, as every kernel takes its time to compile.
TEST_CASE("activations")
{
  check_parity_in_types(
      Elements<Half>{}, "ReLU", [](auto const&) { return with_expert(Ffn<Relu, with_bias>{}); });
  check_parity_in_types(Elements<BFloat16>{}, "squared ReLU", [](auto const&) {
    return with_expert(Ffn<SquaredRelu>{});
  });
  check_parity_in_types(
      Elements<Half>{}, "GELU", [](auto const&) { return with_expert(Ffn<Gelu, with_bias>{}); });
  check_parity_in_types(
      Elements<BFloat16>{}, "SiLU", [](auto const&) { return with_expert(Ffn<Silu>{}); });
  check_parity_in_types(
      Elements<Half>{}, "GeGLU", [](auto const&) { return with_expert(Ffn<GeGlu>{}); });
  check_parity_in_types(Elements<BFloat16>{}, "clamped", [](auto const&) {
    return with_expert(Ffn<ClampedGlu, with_bias>{});
  });
  // Odd extents: nothing is aligned for 16-byte accesses.
  check_parity(
      "odd",
      [](auto const&) { return with_expert(Ffn<SwiGlu, with_bias>{}); },
      ffn_sizes,
      ParityShape{.tokens = 65, .hidden = 7, .experts = 5, .ffn = 9});
}
