// error: calling a __host__ function("moe::Choice<(int)1, T2>  Router::route<
#include "cuda_parts.cuh"

struct Router : parts::Router {
  template <moe::Team G, class S>
  moe::Choice<1, S> route(G, moe::RowContext const&, moe::Row<S const>) const
  {
    return {{{0}}, {{1}}};
  }
};
void call(moe::Cuda const& exec)
{
  parts::evaluate(exec, Router{}, moe::Relu{});
}
