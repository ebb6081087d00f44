// error: moe: top_k = 1 with a softmax over the chosen logit gives weight 1 always, so the router
// gets no gradient: use SoftmaxTopK with unnormalized
#include <moe/route/top_k_softmax_router.hpp>

#include "parts.hpp"

moe::Layer layer{
    moe::TopKSoftmax<1>{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
