// error: calling a constexpr __host__ function("route") from a __host__ __device__
// function("operator()") is not allowed
#include "cuda_parts.cuh"

struct Router : parts::Router {
  template <moe::Team G, class S>
  constexpr moe::Choice<1, S> route(G, moe::RowContext const&, moe::Row<S const>) const
  {
    return {{{0}}, {{1}}};
  }
};
void call(moe::Cuda const& exec)
{
  parts::evaluate(exec, Router{}, moe::Relu{});
}
