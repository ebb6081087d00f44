#pragma once
// combine() on Cuda with 16-byte accesses, several rows' under way at once. The same sum in the
// same order as the functor that it replaces, CombineRow, which stays for what is not aligned.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/dispatch/combine.hpp>
#include <moe/exec/cuda.cuh>
#include <moe/exec/cuda/vector.cuh>

namespace moe {
namespace detail {

inline constexpr int combine_threads = 128;  // a token's columns, 16 bytes each
inline constexpr int combine_unroll  = 4;    // rows that a thread has under way at once
inline constexpr int combine_blocks  = 8;    // of a multiprocessor: leaves registers for those rows

// 16 bytes, or zeros. Written out because the compiler would put the load and the sums that need it
// behind one jump, and then every row would wait for the one before.
__device__ inline uint4 load_16_if(bool wanted, void const* from)
{
  uint4 v;
  asm volatile(
      "{\n"
      "  .reg .pred p;\n"
      "  setp.ne.u32 p, %4, 0;\n"
      "  mov.u32 %0, 0;\n"
      "  mov.u32 %1, 0;\n"
      "  mov.u32 %2, 0;\n"
      "  mov.u32 %3, 0;\n"
      "  @p ld.global.v4.u32 {%0, %1, %2, %3}, [%5];\n"
      "}\n"
      : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
      : "r"(static_cast<unsigned>(wanted)), "l"(__cvta_generic_to_global(from))
      : "memory");
  return v;
}

// As one store; left to itself the compiler makes four of 16-bit elements.
__device__ inline void store_uint4(void* to, uint4 const& v)
{
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
               "r"(v.x),
               "r"(v.y),
               "r"(v.z),
               "r"(v.w)
               : "memory");
}

// A warp's lanes read the places and weights of 32 assignments at once and pass them round.
template <class T>
__global__ void __launch_bounds__(combine_threads, combine_blocks)
    combine_kernel(CombineRow<T, Cuda> c)
{
  using S           = accumulator_t<T>;
  constexpr int n   = Vector16<T>::size;
  constexpr int m   = Vector16<S>::size;
  index_t const t   = blockIdx.x;
  index_t const d   = (index_t{blockIdx.y} * combine_threads + threadIdx.x) * n;
  index_t const D   = c.y.extent(1);
  index_t const end = c.assignments.end(t);
  if (d - index_t{threadIdx.x % 32} * n >= D) { return; }  // a whole warp beyond
  bool const inside = d < D;                               // the others only lend a hand
  S sum[n];
#pragma unroll
  for (int i = 0; i < n; i += m) {
    bool const added = inside && c.addend.data_handle() != nullptr;
    auto const first = added ? load_16(&c.addend(t, d + i)) : Vector16<S>{};
#pragma unroll
    for (int j = 0; j < m; ++j) {
      sum[i + j] = first[j];
    }
  }
  for (index_t first = c.assignments.begin(t); first < end; first += 32) {
    index_t const mine = first + threadIdx.x % 32;
    Id const my_slot   = mine < end ? c.slot_of(mine) : Id{-1};
    S const my_weight  = my_slot >= 0 && c.weight.data_handle() != nullptr ? c.weight(mine) : S{1};
    for (int k = 0; k < 32 && first + k < end; k += combine_unroll) {
      Id slot[combine_unroll];
      uint4 v[combine_unroll];
#pragma unroll
      for (int j = 0; j < combine_unroll; ++j) {
        slot[j] = __shfl_sync(~0u, my_slot, k + j);
      }
#pragma unroll
      for (int j = 0; j < combine_unroll; ++j) {
        v[j] = load_16_if(inside && slot[j] >= 0, c.rows.data_handle() + slot[j] * D + d);
      }
#pragma unroll
      for (int j = 0; j < combine_unroll; ++j) {
        S const w      = __shfl_sync(~0u, my_weight, k + j);
        auto const& at = *reinterpret_cast<Vector16<T> const*>(&v[j]);
#pragma unroll
        for (int i = 0; i < n; ++i) {
          S const next = sum[i] + w * static_cast<S>(at[i]);
          sum[i]       = slot[j] >= 0 ? next : sum[i];
        }
      }
    }
  }
  if (!inside) { return; }
  uint4 bits;
  auto& out = *reinterpret_cast<Vector16<T>*>(&bits);
#pragma unroll
  for (int i = 0; i < n; ++i) {
    out[i] = static_cast<T>(sum[i]);
  }
  store_uint4(&c.y(t, d), bits);
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
  if (!detail::rows_aligned_16(rows, addend, y)) { return exec.for_each_row(tokens, row); }
  index_t const each = index_t{detail::combine_threads} * detail::Vector16<T>::size;
  detail::launch(
      &detail::combine_kernel<T>,
      "moe::combine",
      dim3(static_cast<unsigned>(tokens), static_cast<unsigned>((columns + each - 1) / each)),
      dim3(detail::combine_threads),
      0,
      exec.stream(),
      row);
}

}  // namespace moe
