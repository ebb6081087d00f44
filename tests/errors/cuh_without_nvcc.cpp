// error: moe: a .cuh header needs nvcc: include it from a .cu file, or include <moe/moe.hpp> instead
#include <moe/moe.cuh>
