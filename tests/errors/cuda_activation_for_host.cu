// error: calling a __host__ function("T1 Activation::operator ()<
#include "cuda_parts.cuh"

struct Activation : moe::Relu {
  template <moe::RoutingScalar S>
  S operator()(moe::Array<S, 1> z) const
  {
    return z[0];
  }
};
void call(moe::Cuda const& exec)
{
  parts::evaluate(exec, parts::Router{}, Activation{});
}
