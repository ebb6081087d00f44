// error: moe: top_k is between 1 and 32
#include <moe/route/scored_router.hpp>

#include "parts.hpp"

moe::SoftmaxTopK<33> router;
