#pragma once
// combine() on Cuda with 16-byte accesses. The same sum in the same order as the functor that it
// replaces, CombineRow, which stays for what is not aligned.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/dispatch/combine.hpp>
#include <moe/exec/cuda.cuh>
#include <moe/exec/cuda/vector.cuh>

namespace moe {
namespace detail {

inline constexpr int combine_threads = 128;  // a token's columns, 16 bytes each

template <class T>
__global__ void __launch_bounds__(combine_threads) combine_kernel(CombineRow<T, Cuda> c)
{
  using S         = accumulator_t<T>;
  constexpr int n = Vector16<T>::size;
  index_t const t = blockIdx.x;
  index_t const d = (index_t{blockIdx.y} * combine_threads + threadIdx.x) * n;
  index_t const D = c.y.extent(1);
  if (d >= D) { return; }
  S sum[n];
#pragma unroll
  for (int i = 0; i < n; ++i) {
    sum[i] = c.addend.data_handle() == nullptr ? S{0} : c.addend(t, d + i);
  }
  for (index_t a = c.assignments.begin(t); a < c.assignments.end(t); ++a) {
    Id const slot = c.slot_of(a);
    if (slot < 0) { continue; }
    S const w    = c.weight.data_handle() == nullptr ? S{1} : c.weight(a);
    auto const v = load_16(c.rows.data_handle() + slot * D + d);
#pragma unroll
    for (int i = 0; i < n; ++i) {
      sum[i] += w * static_cast<S>(v[i]);
    }
  }
  Vector16<T> out;
#pragma unroll
  for (int i = 0; i < n; ++i) {
    out[i] = static_cast<T>(sum[i]);
  }
  store_16(&c.y(t, d), out);
}

}  // namespace detail

template <class T>
MOE_HIDDEN void combine(Cuda const& exec,
                        TokenAssignments<Cuda> const& assignments,
                        RoutingPlan<Cuda> const& plan,
                        std::type_identity_t<View<accumulator_t<T> const, 1, Cuda>> weight,
                        std::type_identity_t<View<T const, 2, Cuda>> rows,
                        std::type_identity_t<View<accumulator_t<T> const, 2, Cuda>> addend,
                        View<T, 2, Cuda> y)
{
  auto const phase = exec.phase(Phase::combine);
  detail::CombineRow<T, Cuda> const row{
      assignments, plan.slot_of.const_view(), weight, rows, addend, y};
  index_t const tokens = y.extent(0), columns = y.extent(1);
  if (tokens == 0 || columns == 0) { return; }
  if (!detail::rows_aligned_16(rows, y)) { return exec.for_each_row(tokens, row); }
  index_t const each = index_t{detail::combine_threads} * detail::Vector16<T>::size;
  detail::launch(&detail::combine_kernel<T>,
                 "moe::combine",
                 dim3(static_cast<unsigned>(tokens), static_cast<unsigned>((columns + each - 1) / each)),
                 dim3(detail::combine_threads),
                 0,
                 exec.stream(),
                 row);
}

}  // namespace moe
