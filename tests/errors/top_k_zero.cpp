// error: moe: top_k is between 1 and 32
#include <moe/route/top_k_softmax_router.hpp>

#include "parts.hpp"

moe::TopKSoftmax<0> router;
