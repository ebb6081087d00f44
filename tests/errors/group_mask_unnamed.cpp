// error: moe::group_limited: its mask is minus_infinity, or zero_hf_compat where a published model
// needs it
#include <moe/route/scored_router.hpp>

#include "parts.hpp"

struct zero {};
moe::SigmoidTopK<2, moe::renormalized, moe::group_limited<moe::top2_sum, zero>> router;
