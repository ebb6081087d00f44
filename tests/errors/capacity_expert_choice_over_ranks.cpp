// error: moe::Layer: ExpertChoice chooses among the tokens of one rank
#include <moe/dispatch/all_to_all_dispatcher.hpp>
#include <moe/route/expert_choice_router.hpp>

#include "parts.hpp"

moe::Layer layer{moe::ExpertChoice{},
                 moe::Dropless{},
                 moe::AllToAllDispatcher{moe::SelfCommunicator{}},
                 moe::Ffn<moe::Relu>{}};
