// error: moe::Layer: ExpertChoice fills every expert to its own capacity, compose it with Dropless
#include <moe/plan/drop_policy.hpp>
#include <moe/route/expert_choice_router.hpp>

#include "parts.hpp"

moe::Layer layer{
    moe::ExpertChoice{}, moe::DropByPosition{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
