// error: moe::Layer: after the expert come a gate, a shared expert, losses or
// ReproducibleReduction; each names its kind
#include "parts.hpp"

moe::Layer layer{parts::Router{},
                 moe::Dropless{},
                 moe::SerialDispatcher{},
                 moe::Ffn<moe::Relu>{},
                 moe::Ffn<moe::Relu>{}};
