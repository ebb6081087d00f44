// Compile at -O1: many layers, little work in each.
// On every space.
// Blocks of Hugging Face transformers, reproduced by composing policies.
#include <support/golden_block.hpp>

using namespace moe;
using namespace moe::test;

namespace {

auto const no_more_sizes = [](auto&) {};

}  // namespace

TEST_CASE("Mixtral: top-2 of the softmax, renormalised")
{
  RecordedBlock block{"mixtral"};
  block.add("gate.weight");
  block.add("experts.gate_up_proj");
  block.add("experts.down_proj");
  check_block(
      block,
      [](auto dispatcher) {
        return Layer{SoftmaxTopK<2, renormalized>{}, Dropless{}, dispatcher, Ffn<SwiGlu>{}};
      },
      no_more_sizes);
}

TEST_CASE("OLMoE: top-3 of the softmax as it is")
{
  RecordedBlock block{"olmoe"};
  block.add("gate.weight");
  block.add("experts.gate_up_proj");
  block.add("experts.down_proj");
  check_block(
      block,
      [](auto dispatcher) {
        return Layer{SoftmaxTopK<3>{}, Dropless{}, dispatcher, Ffn<SwiGlu>{}};
      },
      no_more_sizes);
}

TEST_CASE("Qwen2-MoE: a shared expert behind a sigmoid")
{
  RecordedBlock block{"qwen2_moe"};
  block.add("gate.weight");
  block.add("experts.gate_up_proj");
  block.add("experts.down_proj");
  block.add_joined("shared_expert.gate_proj.weight", "shared_expert.up_proj.weight");
  block.add("shared_expert.down_proj.weight");
  block.add("shared_expert_gate.weight");
  check_block(
      block,
      [](auto dispatcher) {
        return Layer{SoftmaxTopK<3>{},
                     Dropless{},
                     dispatcher,
                     Ffn<SwiGlu>{},
                     SharedExpert<Ffn<SwiGlu>, sigmoid_gated>{}};
      },
      [](auto& sizes) { sizes.shared.expert.ffn = 20; });
}

TEST_CASE("GPT-OSS: biases everywhere, a clamped gate, softmax over the chosen")
{
  RecordedBlock block{"gpt_oss"};
  block.add("router.weight");
  block.add("router.bias");
  // (E, D, 2F) with gate and up alternating -> (E, 2F, D); (E, F, D) -> (E, D, F)
  block.add("experts.gate_up_proj",
            [](std::vector<double> const& v) { return transposed(16, 24)(gate_first(12)(v)); });
  block.add("experts.down_proj", transposed(12, 16));
  block.add("experts.gate_up_proj_bias", gate_first(12));
  block.add("experts.down_proj_bias");
  check_block(
      block,
      [](auto dispatcher) {
        return Layer{TopKSoftmax<3>{},
                     Dropless{},
                     dispatcher,
                     Ffn<ClampedGlu, with_bias>{},
                     BiasedLinearGate{}};
      },
      no_more_sizes);
}
