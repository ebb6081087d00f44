// error: moe::Layer: one reduction at most
#include "parts.hpp"

moe::Layer layer{parts::Router{},
                 moe::Dropless{},
                 moe::SerialDispatcher{},
                 moe::Ffn<moe::Relu>{},
                 moe::ReproducibleReduction{},
                 moe::ReproducibleReduction{.block = 8}};
