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

// Pre-activations, rounded, of two neighbouring blocks of eight columns, of which `columns` exist
// and whose bias begins at `bias` for this thread, or is null.
template <class T>
__device__ __forceinline__ void round_results(float const* acc,
                                              T const* bias,
                                              int columns,
                                              BlockPair& z)
{
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    float const* const x = acc + k * 4;
    std::uint32_t add    = 0;
    if (bias != nullptr && k * 8 < columns) {
      add = *reinterpret_cast<std::uint32_t const*>(bias + k * 8);
    }
    float const b0 = unpack<T>(add, 0), b1 = unpack<T>(add, 1);
    z[k][0] = pack_two<T>(b0 + x[0], b1 + x[1]);
    z[k][1] = pack_two<T>(b0 + x[2], b1 + x[3]);
  }
}

// Blocks of columns are worked on two at a time, behind a branch that the compiler does not know,
// as there are not enough registers for all at once.
template <bool StoresPre, class ActivationT, class T, class Products>
__device__ __forceinline__ void store_activated(ActivatedRows<ActivationT, T> const& args,
                                                Products& products,
                                                GroupedTile const& tile,
                                                int row,
                                                float const (&acc)[128])
{
  constexpr int parts = ActivationT::arity, width = HopperTile::columns / parts;
  constexpr int each  = StoresPre ? parts + 1 : 1;  // boxes of 64 columns
  int const columns   = static_cast<int>(args.p.n) - tile.n0;
  int const mine      = static_cast<int>(threadIdx.x) % 4 * 2;
  T const* const bias = args.p.bias == nullptr
                            ? nullptr
                            : args.p.bias + tile.expert * parts * args.p.n + tile.n0 + mine;
  ResultBoxes<Products> boxes(products);
#pragma unroll
  for (int box = 0; box < width / 64; ++box) {
    if (box * 64 < columns) {
      boxes.template open<each>();
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        int const column = box * 64 + j * 8;
        if (column < columns) {
          BlockPair z[parts];
          std::uint32_t a[4];
#pragma unroll
          for (int part = 0; part < parts; ++part) {
            round_results<T>(acc + (part * width + column) / 2,
                             bias == nullptr ? nullptr : bias + part * args.p.n + column,
                             columns - column,
                             z[part]);
            if constexpr (StoresPre) {
              std::uint32_t four[4] = {z[part][0][0], z[part][0][1], z[part][1][0], z[part][1][1]};
              boxes.put(part, j, four);
            }
          }
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            a[i] = pack_two<T>(args.activation(unpack_column<T>(z, i / 2, i % 2, 0)),
                               args.activation(unpack_column<T>(z, i / 2, i % 2, 1)));
          }
          boxes.put(each - 1, j, a);
        }
      }
      boxes.template close<each>([&](int i, unsigned char const* from) {
        CUtensorMap const& map = i == each - 1 ? args.c_map : args.pre_map[i % parts];
        store_ragged_box(map, tile.n0 + box * 64, row, tile.m1, from);
      });
    }
  }
}
template <class ActivationT, class T, class Products>
__device__ __forceinline__ void store_rows(ActivatedRows<ActivationT, T> const& args,
                                           Products& products,
                                           GroupedTile const& tile,
                                           int row,
                                           float const (&acc)[128])
{
  if (args.stores_pre) {
    store_activated<true>(args, products, tile, row, acc);
  } else {
    store_activated<false>(args, products, tile, row, acc);
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
  if constexpr (may_choose_pairs<Tuning>) {
    if (choose_pairs<Tuning>(groups)) {
      return hopper_up_activated<InPairs<Tuning>>(exec, groups, x, w, bias, activation, pre, a);
    }
  }
  constexpr int parts    = ActivationT::arity;
  char const* const name = "moe::Ffn, up projection";
  using Product          = ActivatedRows<ActivationT, T>;
  auto const kernel      = &hopper_rows_kernel<Product, Major::k, Tuning>;
  index_t const F = a.extent(1), k = x.columns();
  if (groups.known_begin >= 0 || k == 0 || !aligned_16(x.base.data_handle(), k) ||
      !aligned_16(w.data_handle(), k) || !aligned_16(bias.data_handle(), F) ||
      !aligned_16(pre.data_handle(), F) || !aligned_16(a.data_handle(), F) ||
      !within_64_gib(x.base)) {
    return false;
  }
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
  auto const order = hopper_order<Product, Tuning>(groups, F);
  Product args{{{}, {}, {}, p, order}, {}, activation, pre.data_handle() != nullptr};
  if (p.a.index == nullptr) { args.a_map = rows_map(p.a.base, x.base.extent(0), k, k, 64); }
  args.w_map = matrices_map(p.b.base, w.extent(0) * parts, F, k, w_box_rows<Product, Tuning>);
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
  grouped_gemm_rows<KernelT>(exec, groups, x, Transpose::yes, w, bias, pre);
  activate(exec, groups, ActivateRow<ActivationT, T, Cuda>{activation, pre, a});
}

}  // namespace moe::detail
