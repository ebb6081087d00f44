// error: moe::plan_memory: of dispatchers over ranks it knows AllToAllDispatcher with
#include <moe/expert_parallel.hpp>
#include <moe/layer/memory_plan.hpp>

auto plan()
{
  moe::AllToAllDispatcher const once{
      moe::SelfCommunicator{}, {}, moe::BatchedSchedule{}, moe::FlatExchange{}, moe::OncePerRank{}};
  moe::Layer const layer{moe::SoftmaxTopK<2>{}, moe::Dropless{}, once, moe::Ffn<moe::SwiGlu>{}};
  return moe::plan_memory<float>(layer, {}, 8);
}
