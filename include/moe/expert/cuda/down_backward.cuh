#pragma once
// The gradient of the down projection's rows on sm_90a with all that follows it in its epilogue:
// pre-activations come through the ring of stages behind the operands, the activation is computed
// again, and its gradient, the weighted activation and the weight's gradient are formed. The bits
// are those of the product and the pass over it, but for d_weight, whose sum over F is taken tile
// by tile: partial sums, then those in order.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/grouped_gemm.cuh>
#include <moe/expert/cuda/activate.cuh>
#include <moe/expert/cuda/box_columns.cuh>
#include <moe/expert/ffn_products.hpp>

namespace moe::detail {

// a is dy, n is F, c the weighted activations.
template <class ActivationT, class T>
struct ActivatedBackwardRows : RowsProduct<T> {
  static constexpr bool store_reads = true;
  static constexpr int arity        = ActivationT::arity;

  CUtensorMap pre_map[arity];    // a part of pre's rows, boxes of 64
  CUtensorMap d_pre_map[arity];  // ragged
  ActivationT activation;
  float const* weight;  // (R)
  float* partial;       // of d_weight, (R, stride): one for each tile of columns
  index_t partial_stride;
};

// Pre-activations of 64 columns, from column n of the tile on, to a stage: both warpgroups' rows,
// and behind each one's a box for its weighted activations.
template <class ActivationT, class T, class Tuning>
__device__ __forceinline__ void copy_for_store(ActivatedBackwardRows<ActivationT, T> const& args,
                                               HopperMemory<Tuning>& memory,
                                               int stage,
                                               GroupedTile const& tile,
                                               int n)
{
  constexpr int arity = ActivationT::arity;
  static_assert(2 * (arity + 1) * HopperTile::box_bytes <= HopperTile::stage_bytes);
  int const rows = tile.m1 - tile.m0, warpgroups = rows <= 0 ? 0 : rows > 64 ? 2 : 1;
  memory.ring.fill(stage, warpgroups * arity * HopperTile::box_bytes);
#pragma unroll 1
  for (int warpgroup = 0; warpgroup < warpgroups; ++warpgroup) {
#pragma unroll
    for (int part = 0; part < arity; ++part) {
      load_box<2>(args.pre_map[part],
                  {tile.n0 + n, tile.m0 + warpgroup * 64},
                  memory.stage[stage] + (warpgroup * (arity + 1) + part) * HopperTile::box_bytes,
                  &memory.ring.full[stage]);
    }
  }
}

// Two neighbouring columns of a row, whose da are x and y: block k of z.
template <class T, class ActivationT, int Arity>
__device__ __forceinline__ void backward_of_two(ActivationT const& activation,
                                                BlockPair const (&z)[Arity],
                                                int k,
                                                int of,
                                                float x,
                                                float y,
                                                float weight,
                                                float& sum,
                                                std::uint32_t& weighted,
                                                BlockPair (&d_pre)[Arity])
{
  std::uint32_t const da = pack_two<T>(0.f + x, 0.f + y);  // rounded as it would be stored
  float a[2], grad[Arity][2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    auto const column = unpack_column<T>(z, k, of, i);
    float const d     = unpack<T>(da, i);
    a[i]              = activation(column);
    auto const g      = activation.backward(column, weight * d);
    sum += d * a[i];
#pragma unroll
    for (int part = 0; part < Arity; ++part) {
      grad[part][i] = g[part];
    }
  }
  weighted = pack_two<T>(weight * a[0], weight * a[1]);
#pragma unroll
  for (int part = 0; part < Arity; ++part) {
    d_pre[part][k][of] = pack_two<T>(grad[part][0], grad[part][1]);
  }
}

template <class ActivationT, class T, class Products>
__device__ __forceinline__ void store_rows(ActivatedBackwardRows<ActivationT, T> const& args,
                                           Products& products,
                                           GroupedTile const& tile,
                                           int row,
                                           float const (&acc)[128])
{
  constexpr int arity = ActivationT::arity;
  int const columns   = static_cast<int>(args.p.n) - tile.n0;
  int const lane      = static_cast<int>(threadIdx.x) % 32;
  int const first     = row + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4;
  BoxPlace const place;
  float weight[2], sum[2] = {0, 0};  // of this thread's two rows
#pragma unroll
  for (int of = 0; of < 2; ++of) {
    int const r = first + of * 8;
    weight[of]  = r < tile.m1 ? args.weight[r] : 0.f;
  }
  int before = -1;  // the stage from which is being stored
#pragma unroll
  for (int box = 0; box < HopperTile::columns / 64; ++box) {
    if (box * 64 < columns) {
      int const stage            = products.take_stage();
      unsigned char* const boxes = products.part(stage, (arity + 1) * HopperTile::box_bytes);
      unsigned char* const a_box = boxes + arity * HopperTile::box_bytes;
      // Two blocks of eight columns at a time, so that registers suffice. Gradients take the
      // place of their pre-activations, all of which are of this warp's rows.
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        if (box * 64 + j * 8 < columns) {
          std::uint32_t z_at[arity];
          BlockPair z[arity], d_pre[arity] = {}, weighted = {};
#pragma unroll
          for (int part = 0; part < arity; ++part) {
            z_at[part] = place(shared_address(boxes + part * HopperTile::box_bytes), j);
            load_block_pair(z_at[part], z[part]);
          }
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            int const block = box * 8 + j + k;
            if (block * 8 < columns) {
#pragma unroll
              for (int of = 0; of < 2; ++of) {
                backward_of_two<T>(args.activation,
                                   z,
                                   k,
                                   of,
                                   acc[block * 4 + of * 2],
                                   acc[block * 4 + of * 2 + 1],
                                   weight[of],
                                   sum[of],
                                   weighted[k][of],
                                   d_pre);
              }
            }
          }
#pragma unroll
          for (int part = 0; part < arity; ++part) {
            store_block_pair(z_at[part], d_pre[part]);
          }
          store_block_pair(place(shared_address(a_box), j), weighted);
        }
      }
      cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
      products.meet();
      if (products.stores()) {
        store_ragged_box(args.c_map, tile.n0 + box * 64, row, tile.m1, a_box);
#pragma unroll
        for (int part = 0; part < arity; ++part) {
          store_ragged_box(args.d_pre_map[part],
                           tile.n0 + box * 64,
                           row,
                           tile.m1,
                           boxes + part * HopperTile::box_bytes);
        }
        cuda::ptx::cp_async_bulk_commit_group();
        cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<1>{});
        if (before >= 0) { products.give_back(before); }
      }
      before = stage;
    }
  }
  products.hold(-1, before);
#pragma unroll
  for (int of = 0; of < 2; ++of) {
    sum[of] += __shfl_xor_sync(~0u, sum[of], 1);
    sum[of] += __shfl_xor_sync(~0u, sum[of], 2);
    int const r = first + of * 8;
    if (lane % 4 == 0 && r < tile.m1) {
      args.partial[r * args.partial_stride + tile.n0 / HopperTile::columns] = sum[of];
    }
  }
}

// d_weight(r) = the sum of r's partial sums + <dy(r), b_out(e)>; a lane for each of 32 rows.
template <class T>
struct WeightGradient32Rows {
  RowGroups<Cuda> groups;
  float const* partial;
  index_t stride;
  int partials;
  IndexedRows<T, Cuda> dy;       // (R, D)
  View<T const, 2, Cuda> b_out;  // (L, D) or empty
  View<float, 1, Cuda> d_weight;

  template <Team G>
  __device__ void operator()(G team, index_t i) const
  {
    index_t const r = i * 32 + team.lane();
    Id const e      = r < groups.rows ? expert_of_row(groups, r) : -1;
    float sum       = 0;
    for (int t = 0; e >= 0 && t < partials; ++t) {
      sum += partial[r * stride + t];
    }
    for (int lane = 0; b_out.data_handle() != nullptr && lane < 32; ++lane) {
      Id const its_e     = __shfl_sync(~0u, e, lane);
      T const* const row = its_e < 0 ? nullptr : dy.row(i * 32 + lane);
      if (row == nullptr) { continue; }
      float dot = 0;
      for (index_t d = team.lane(); d < b_out.extent(1); d += team.size()) {
        dot += static_cast<float>(row[d]) * static_cast<float>(b_out(its_e, d));
      }
      dot = team.sum(dot);
      if (team.lane() == lane) { sum += dot; }
    }
    if (e >= 0) { d_weight(r) = sum; }
  }
};

// As in launch.cuh: an activation of the user's may be in an unnamed namespace.
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1407

// Starts it and says so, or leaves it to the composition: see hopper_grouped_rows(). Partial sums
// go to the rows of `dx`.
template <class Tuning, class ActivationT, class T>
MOE_HIDDEN bool hopper_down_backward(Cuda const& exec,
                                     RowGroups<Cuda> const& groups,
                                     View<T const, 3, Cuda> w,
                                     ActivateBackwardRow<ActivationT, T, Cuda> const& row,
                                     View<T, 2, Cuda> dx)
{
  if constexpr (may_choose_pairs<Tuning>) {
    if (choose_pairs<Tuning>(groups)) {
      return hopper_down_backward<InPairs<Tuning>>(exec, groups, w, row, dx);
    }
  }
  constexpr int arity = ActivationT::arity;
  using Product       = ActivatedBackwardRows<ActivationT, T>;
  auto const kernel   = &hopper_rows_kernel<Product, Major::lanes, Tuning>;
  index_t const F = row.da.extent(1), D = row.dy.columns();
  index_t const partials = tiles_of(F, HopperTile::columns);
  index_t const stride = D * static_cast<index_t>(sizeof(T)) / static_cast<index_t>(sizeof(float));
  if (groups.known_begin >= 0 || D == 0 || stride < partials ||
      !aligned_16(row.dy.base.data_handle(), D) || !aligned_16(w.data_handle(), F) ||
      !aligned_16(row.pre.data_handle(), F) || !aligned_16(row.da.data_handle(), F) ||
      !aligned_16(row.d_pre.data_handle(), F) || !aligned_16(dx.data_handle(), D) ||
      !within_64_gib(row.dy.base)) {
    return false;
  }
  GroupedProduct<T, T, T> const p{groups,
                                  {row.dy.base.data_handle(), D, row.dy.index.data_handle()},
                                  {w.data_handle(), F, nullptr},
                                  0,
                                  F,
                                  D,
                                  D,
                                  nullptr,
                                  row.da.data_handle()};
  if (!hopper_takes(exec, kernel, p, row.dy.base.extent(0))) { return false; }
  auto const order    = hopper_order<Product, Tuning>(groups, F);
  auto* const partial = reinterpret_cast<float*>(dx.data_handle());
  Product args{
      {{}, {}, {}, p, order}, {}, {}, row.activation, row.weight.data_handle(), partial, stride};
  if (p.a.index == nullptr) { args.a_map = rows_map(p.a.base, row.dy.base.extent(0), D, D, 64); }
  args.w_map = matrices_map(p.b.base, w.extent(0), D, F, HopperTile::depth);
  args.c_map = ragged_rows_map(p.c, F, F, 64);
  for (int part = 0; part < arity; ++part) {
    args.pre_map[part] =
        rows_map(row.pre.data_handle() + part * F, row.pre.extent(0), F, arity * F, 64);
    args.d_pre_map[part] = ragged_rows_map(row.d_pre.data_handle() + part * F, F, arity * F, 64);
  }
  launch_hopper_rows<Tuning>(exec, kernel, args, "moe::Ffn, gradient of the down projection");
  exec.for_each_row(
      tiles_of(groups.rows, 32),
      WeightGradient32Rows<T>{
          groups, partial, stride, static_cast<int>(partials), row.dy, row.b_out, row.d_weight});
  return true;
}

#pragma nv_diagnostic pop

// KernelT: the tuning of the kernel that has all in one, or UniformWarps, the composition.
template <class KernelT = DefaultRowsKernel, class ActivationT, class T>
void down_backward(Cuda const& exec,
                   RowGroups<Cuda> const& groups,
                   View<T const, 3, Cuda> w,
                   ActivateBackwardRow<ActivationT, T, Cuda> const& row,
                   View<T, 2, Cuda> dx)
{
  if (groups.experts() <= 0 || groups.rows == 0) { return; }
  if constexpr (!std::is_same_v<KernelT, UniformWarps> && tensor_core_elements<T>) {
    if (hopper_down_backward<KernelT>(exec, groups, w, row, dx)) { return; }
  }
  grouped_gemm_rows<KernelT>(
      exec, groups, row.dy, Transpose::no, w, View<T const, 2, Cuda>{}, row.da);
  activate_backward(exec, groups, row);
}

}  // namespace moe::detail
