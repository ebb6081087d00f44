// compiles
// flags: -std=c++20
#include <moe/exec/host.hpp>
