// error: moe: top_k = 1 with renormalised weights gives weight 1 always, so the router gets no
// gradient: use unnormalized
#include <moe/route/scored_router.hpp>

#include "parts.hpp"

moe::Layer layer{moe::SoftmaxTopK<1, moe::renormalized>{},
                 moe::Dropless{},
                 moe::SerialDispatcher{},
                 moe::Ffn<moe::Relu>{}};
