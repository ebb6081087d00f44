// error: moe::Glu: its activation reads one number
#include "parts.hpp"

moe::Ffn<moe::Glu<moe::SwiGlu>> expert;
