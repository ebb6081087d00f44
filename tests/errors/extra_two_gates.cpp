// error: moe::Layer: one gate at most
#include "parts.hpp"

moe::Layer layer{parts::Router{},
                 moe::Dropless{},
                 moe::SerialDispatcher{},
                 moe::Ffn<moe::Relu>{},
                 moe::LinearGate{},
                 moe::BiasedLinearGate{}};
