// error: moe::RenormalizeKept: with top_k = 1 every kept weight is 1, so the router gets no
// gradient
#include <moe/route/scored_router.hpp>

#include "parts.hpp"

moe::Layer layer{moe::RenormalizeKept{moe::SwitchRouter{}},
                 moe::Dropless{},
                 moe::SerialDispatcher{},
                 moe::Ffn<moe::Relu>{}};
