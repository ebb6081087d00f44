// error: moe::Layer: GivenRouting has no logits, so it takes no gate
#include <moe/route/given_routing.hpp>

#include "parts.hpp"

moe::Layer layer{moe::GivenRouting<2>{},
                 moe::Dropless{},
                 moe::SerialDispatcher{},
                 moe::Ffn<moe::Relu>{},
                 moe::LinearGate{}};
