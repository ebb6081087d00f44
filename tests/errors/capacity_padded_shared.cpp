// error: moe::Layer: with RankCapacity no expert has slots of its own to pad to, use
// BatchedDispatcher<BatchedSchedule>
#include <moe/plan/rank_capacity.hpp>

#include "parts.hpp"

moe::Layer layer{parts::Router{},
                 moe::RankCapacity{moe::DropByPosition<>{}, 2},
                 moe::BatchedDispatcher<moe::PaddedSchedule>{},
                 moe::Ffn<moe::Relu>{}};
