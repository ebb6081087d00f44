// error: moe::SharedExpert: its kernel is an expert kernel, see moe/expert/expert_kernel.hpp
#include "parts.hpp"

struct Expert {};
moe::SharedExpert<Expert> shared;
