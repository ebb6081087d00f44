// error: moe::Layer: GivenRouting has no logits, so losses on them have nothing to work on
#include <moe/route/balance_loss.hpp>
#include <moe/route/given_routing.hpp>

#include "parts.hpp"

moe::Layer layer{moe::GivenRouting<2>{},
                 moe::Dropless{},
                 moe::SerialDispatcher{},
                 moe::Ffn<moe::Relu>{},
                 moe::SwitchLoss{}};
