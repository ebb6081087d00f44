// error: moe::Layer: one shared expert at most; give it a larger ffn instead
#include "parts.hpp"

moe::SharedExpert<parts::Expert> shared;
moe::Layer layer{parts::Router{},
                 moe::Dropless{},
                 moe::SerialDispatcher{},
                 moe::Ffn<moe::Relu>{},
                 shared,
                 shared};
