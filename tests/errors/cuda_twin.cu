// compiles
#include "cuda_parts.cuh"

struct Router : parts::Router {
  template <moe::Team G, class S>
  MOE_HOST_DEVICE moe::Choice<1, S> route(G, moe::RowContext const&, moe::Row<S const>) const
  {
    return {{{0}}, {{1}}};
  }
};
struct Activation : moe::Relu {
  template <moe::RoutingScalar S>
  MOE_HOST_DEVICE S operator()(moe::Array<S, 1> z) const
  {
    return z[0];
  }
};
struct Fill {
  float* x;
  template <moe::Team G>
  MOE_HOST_DEVICE void operator()(G team, moe::index_t row) const
  {
    if (team.lane() == 0) { x[row] = 1; }
  }
};
// A mistake of the program's own, outside the library, stays the warning that it is with nvcc.
constexpr int for_host(int i)
{
  return i + 1;
}
template <class T>
MOE_HOST_DEVICE T of_the_program(T i)
{
  return for_host(i);
}
__global__ void kernel(int* p)
{
  *p = of_the_program(*p);
}

void call(moe::Cuda const& exec, float* x)
{
  parts::evaluate(exec, Router{}, Activation{});
  exec.for_each_row(3, Fill{x});
}
