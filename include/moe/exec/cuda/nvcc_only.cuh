// Included first by every .cuh: the sentence comes before anything else that g++ would say.
#if !defined(__CUDACC__)
#error "moe: a .cuh header needs nvcc: include it from a .cu file, or include <moe/moe.hpp> instead"
#endif
