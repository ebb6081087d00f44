#pragma once
// The up projection on sm_90a with the activation in its epilogue: a tile of w has gate rows and
// the up rows that belong to them, so that one thread's results are all that its activations read.
// Any activation of expert/activation.hpp, with the bits of the product and the pass over it.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/grouped_gemm.cuh>
#include <moe/expert/cuda/activate.cuh>
#include <moe/expert/cuda/box_columns.cuh>
#include <moe/expert/ffn_products.hpp>

namespace moe::detail {

// p.n is F, and c the activations; pre-activations go through maps of their own, one for each part
// of their rows, where anybody reads them.
template <class ActivationT, class T>
struct ActivatedRows : RowsProduct<T> {
  static constexpr int parts = ActivationT::arity;

  CUtensorMap pre_map[parts];  // ragged, boxes of 64 rows
  ActivationT activation;
  bool stores_pre;
};

// Pre-activations, rounded: columns 64 box ... of a part of the tile, whose bias begins at `bias`
// for this thread, or is null.
template <class T>
__device__ __forceinline__ void round_results(
    float const (&acc)[128], int first_block, T const* bias, int columns, BoxResults& z)
{
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    float const* const x = acc + (first_block + j) * 4;
    std::uint32_t add    = 0;
    if (bias != nullptr && j * 8 < columns) {
      add = *reinterpret_cast<std::uint32_t const*>(bias + j * 8);
    }
    float const b0 = unpack<T>(add, 0), b1 = unpack<T>(add, 1);
    z[j][0] = pack_two<T>(b0 + x[0], b1 + x[1]);
    z[j][1] = pack_two<T>(b0 + x[2], b1 + x[3]);
  }
}

template <class ActivationT, class T, class Products>
__device__ __forceinline__ void store_rows(ActivatedRows<ActivationT, T> const& args,
                                           Products&,
                                           ResultBoxes& boxes,
                                           GroupedTile const& tile,
                                           int row,
                                           float const (&acc)[128])
{
  constexpr int parts = ActivationT::arity, together = parts == 1 ? 1 : 2;
  int const columns   = static_cast<int>(args.p.n) - tile.n0;
  int const mine      = static_cast<int>(threadIdx.x) % 4 * 2;
  T const* const bias = args.p.bias == nullptr
                            ? nullptr
                            : args.p.bias + tile.expert * parts * args.p.n + tile.n0 + mine;
#pragma unroll
  for (int box = 0; box < HopperTile::columns / parts / 64; ++box) {
    if (box * 64 < columns) {
      BoxResults z[parts], a = {};
#pragma unroll
      for (int part = 0; part < parts; ++part) {
        round_results<T>(acc,
                         part * (HopperTile::columns / parts / 8) + box * 8,
                         bias == nullptr ? nullptr : bias + part * args.p.n + box * 64,
                         columns - box * 64,
                         z[part]);
        if (args.stores_pre) {
          boxes.store(args.pre_map[part], tile.n0 + box * 64, row, tile.m1, z[part]);
        }
      }
      // Few blocks at a time: a branch that the compiler does not know keeps it from working on all
      // activations at once, for which there are not enough registers.
#pragma unroll
      for (int j = 0; j < 8; j += together) {
        if (box * 64 + j * 8 < columns) {
#pragma unroll
          for (int i = 0; i < 2 * together; ++i) {
            a[j + i / 2][i % 2] =
                pack_two<T>(args.activation(unpack_column<T>(z, j + i / 2, i % 2, 0)),
                            args.activation(unpack_column<T>(z, j + i / 2, i % 2, 1)));
          }
        }
      }
      boxes.store(args.c_map, tile.n0 + box * 64, row, tile.m1, a);
    }
  }
}

// As in launch.cuh: an activation of the user's may be in an unnamed namespace.
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1407

// Starts it and says so, or leaves it to the composition: see hopper_grouped_rows().
template <class Tuning, class ActivationT, class T>
MOE_HIDDEN bool hopper_up_activated(Cuda const& exec,
                                    RowGroups<Cuda> const& groups,
                                    IndexedRows<T, Cuda> const& x,
                                    View<T const, 3, Cuda> w,
                                    View<T const, 2, Cuda> bias,
                                    ActivationT const& activation,
                                    View<T, 2, Cuda> pre,  // empty: not stored
                                    View<T, 2, Cuda> a)
{
  constexpr int parts = ActivationT::arity, columns = HopperTile::columns / parts;
  char const* const name = "moe::Ffn, up projection";
  using Product          = ActivatedRows<ActivationT, T>;
  auto const kernel      = &hopper_rows_kernel<Product, Major::k, Tuning>;
  index_t const F = a.extent(1), k = x.columns();
  if (!fits_activated_product(groups, x, w, bias, pre, a)) { return false; }
  GroupedProduct<T, T, T> const p{groups,
                                  {x.base.data_handle(), k, x.index.data_handle()},
                                  {w.data_handle(), k, nullptr},
                                  0,
                                  F,
                                  k,
                                  F,
                                  bias.data_handle(),
                                  a.data_handle()};
  if (!hopper_takes(exec, kernel, p, x.base.extent(0))) { return false; }
  TileOrder const order(row_tiles_bound(groups, HopperTile::rows), tiles_of(F, columns));
  Product args{{{}, {}, {}, p, order}, {}, activation, pre.data_handle() != nullptr};
  if (p.a.index == nullptr) { args.a_map = rows_map(p.a.base, x.base.extent(0), k, k, 64); }
  args.w_map = matrices_map(p.b.base, w.extent(0) * parts, F, k, columns);
  args.c_map = ragged_rows_map(p.c, F, F, 64);
  for (int part = 0; args.stores_pre && part < parts; ++part) {
    args.pre_map[part] = ragged_rows_map(pre.data_handle() + part * F, F, parts * F, 64);
  }
  launch_hopper_rows<Tuning>(exec, kernel, args, name);
  return true;
}

#pragma nv_diagnostic pop

// KernelT: the tuning of the kernel that has both in one, or UniformWarps, the composition.
template <class KernelT = DefaultRowsKernel, class ActivationT, class T>
void up_activated(Cuda const& exec,
                  RowGroups<Cuda> const& groups,
                  IndexedRows<T, Cuda> const& x,
                  View<T const, 3, Cuda> w,
                  View<T const, 2, Cuda> bias,
                  ActivationT const& activation,
                  Pass pass,
                  View<T, 2, Cuda> pre,
                  View<T, 2, Cuda> a)
{
  if (groups.experts() <= 0 || groups.rows == 0 || a.extent(1) == 0) { return; }
  if constexpr (!std::is_same_v<KernelT, UniformWarps> && tensor_core_elements<T>) {
    auto const stored = pass == Pass::infer ? View<T, 2, Cuda>{} : pre;
    if (hopper_up_activated<KernelT>(exec, groups, x, w, bias, activation, stored, a)) { return; }
  }
  Tensor<T, 2, Cuda> made;
  if (pre.empty()) {
    made = Tensor<T, 2, Cuda>(exec, a.extent(0), ActivationT::arity * a.extent(1));
    pre  = made.view();
  }
  grouped_gemm_rows<KernelT>(exec, groups, x, Transpose::yes, w, bias, pre);
  activate(exec, groups, ActivateRow<ActivationT, T, Cuda>{activation, pre, a});
}

}  // namespace moe::detail
