// error: moe refuses -ffast-math and -ffinite-math-only
// flags: -ffinite-math-only
#include <moe/exec/host.hpp>
