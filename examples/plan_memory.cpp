// How much memory a layer takes on a GPU, before there is one: of one rank of eight that share
// Qwen3-30B-A3B's experts.
#include <moe/layer/memory_plan.hpp>
#include <moe/moe.hpp>

#include <cstdio>

namespace {

// [plan]
moe::MemoryPlan plan(int ranks)
{
  moe::Layer const layer{moe::SoftmaxTopK<8, moe::renormalized>{},
                         moe::Dropless{},
                         moe::AllToAllDispatcher{moe::SelfCommunicator{}},
                         moe::Ffn<moe::SwiGlu>{},
                         moe::SwitchLoss{}};
  moe::index_t const tokens = 8192;               // of each rank
  return moe::plan_memory<moe::BFloat16, float>(  // elements, gradients
      layer,
      {.hidden = 2048, .experts = 128, .expert = {.ffn = 768}},
      tokens,
      {.space = {.like = moe::MeteredSpace::cuda},
       .ranks = ranks,
       .rows  = 8 * tokens});  // that arrive, here as if loads were even; or the most that can
}
// [/plan]

}  // namespace

int main()
{
  std::fputs(to_text(plan(8)).c_str(), stdout);
}
