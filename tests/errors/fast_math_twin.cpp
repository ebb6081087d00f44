// compiles
// flags: -O3
#include <moe/exec/host.hpp>
