// error: moe refuses -ffast-math and -ffinite-math-only
// flags: -ffast-math
#include <moe/exec/host.hpp>
