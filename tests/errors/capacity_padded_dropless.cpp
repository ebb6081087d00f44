// error: moe::Layer: Dropless has no capacity to pad to, use BatchedDispatcher<BatchedSchedule> or
// a bounded capacity policy
#include "parts.hpp"

moe::Layer layer{parts::Router{},
                 moe::Dropless{},
                 moe::BatchedDispatcher<moe::PaddedSchedule>{},
                 moe::Ffn<moe::Relu>{}};
