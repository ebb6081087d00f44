// Compile at -O1: many layers, little work in each.
// On every space.
// Blocks whose objective has a balancing loss in it, one of them with drops.
#include <support/golden_block.hpp>

using namespace moe;
using namespace moe::test;

TEST_CASE("MiniMind: a shared expert, and the loss over the batch with alpha = 3")
{
  RecordedBlock block{"minimind_v2_batch"};
  block.add("gate.weight");
  block.add("experts.gate_up_proj");
  block.add("experts.down_proj");
  block.add_joined("shared_experts.gate_proj.weight", "shared_experts.up_proj.weight");
  block.add("shared_experts.down_proj.weight");
  check_block(
      block,
      [](auto dispatcher) {
        return Layer{SoftmaxTopK<2, renormalized>{},
                     Dropless{},
                     dispatcher,
                     Ffn<SwiGlu>{},
                     SharedExpert<Ffn<SwiGlu>>{},
                     MiniMindBatchLoss{.coeff = 3}};
      },
      [](auto& sizes) { sizes.shared.expert.ffn = 12; },
      [&](ComputedBlock const& out) {
        check_recorded("aux_loss", out.losses, block.values("aux_loss"));
      });
}

TEST_CASE("Tutel: top-2 with capacity factor 1, which drops; the objective has 3 aux_loss in it")
{
  RecordedBlock block{"tutel_top2_cf1"};
  block.add("gates.0.wg.weight");
  block.add("experts.batched_fc1_w");
  block.add("experts.batched_fc2_w", transposed(12, 16));  // (E, F, D) -> (E, D, F)
  block.add("experts.batched_fc1_bias");
  block.add("experts.batched_fc2_bias");
  check_block(
      block,
      [](auto dispatcher) {
        return Layer{SoftmaxTopK<2, renormalized>{},
                     DropByPosition{TutelCapacity{.factor = 1}},
                     dispatcher,
                     Ffn<Relu, with_bias>{},
                     GShardLoss{.coeff = 3}};
      },
      [](auto&) {},
      [&](ComputedBlock const& out) {
        auto recorded = block.values("aux_loss");
        recorded[0] *= 3;
        check_recorded("3 aux_loss", out.losses, recorded);
        CHECK(out.tokens_per_expert == block.values("dispatch_count"));
        double over = 0;  // 10 = 2 ceil(37 / 8) slots
        for (double const count : out.tokens_per_expert) {
          over += std::max(0.0, count - 10);
        }
        CHECK(over > 0);
        CHECK(out.dropped == over);
      });
}
