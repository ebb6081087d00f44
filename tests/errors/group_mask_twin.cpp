// compiles
#include <moe/route/scored_router.hpp>

#include "parts.hpp"

moe::SigmoidTopK<2, moe::renormalized, moe::group_limited<moe::top2_sum>> router;
moe::SigmoidTopK<2, moe::renormalized, moe::group_limited<moe::top2_sum, moe::zero_hf_compat>>
    as_published;
