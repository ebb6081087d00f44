#pragma once
// From the tensor cores' registers through boxes in shared memory to gradients in device memory.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/instructions.cuh>
#include <moe/exec/cuda/hopper/store_tile.cuh>
#include <moe/exec/cuda/hopper/weights_product.cuh>
#include <moe/exec/cuda/wgmma.cuh>

namespace moe::detail {

// Boxes of 64 x 64 gradients of 16 bits.
template <class G>
class GradientPlace {
 public:
  // The columns of acc from block of eight `first` on, to a box at `to`: old + acc, rounded once,
  // for what is there, or 0 + acc. By the warp whose rows they are.
  __device__ __forceinline__ void put(std::uint32_t to,
                                      int first,
                                      float const (&acc)[128],
                                      bool add) const
  {
    std::uint32_t r[4][4] = {};  // of two blocks each: block i / 2, this thread's row i % 2
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (add) { load_matrices<false>(r[j], place_(to, j * 2)); }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int const x = (first + j * 2 + i / 2) * 4 + i % 2 * 2;
        r[j][i] = pack_two<G>(unpack<G>(r[j][i], 0) + acc[x], unpack<G>(r[j][i], 1) + acc[x + 1]);
      }
      store_matrices(place_(to, j * 2), r[j]);
    }
  }

 private:
  BoxPlace place_;
};

// Boxes of 64 x 32 floats, which hold acc alone.
template <>
class GradientPlace<float> {
 public:
  __device__ GradientPlace()
  {
    int const lane = static_cast<int>(threadIdx.x) % 32, row = lane / 4;
    odd_ = row % 2 != 0;
    place_ =
        static_cast<std::uint32_t>((static_cast<int>(threadIdx.x) % 128 / 32 * 16 + row) * 128 +
                                   ((lane % 4 / 2) ^ row ^ (odd_ ? 4 : 0)) * 16 + lane % 2 * 8);
  }
  // A box has four blocks of eight columns, of which a thread has 8 bytes, in pieces of 16 that are
  // exchanged by their row. Rows beside each other would meet in a bank: so an odd one stores block
  // b + 2 when an even one stores block b.
  __device__ __forceinline__ void put(std::uint32_t to,
                                      int first,
                                      float const (&acc)[128],
                                      bool) const
  {
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // this thread's row, and the one eight rows further on
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        int const x = (first + b) * 4 + half * 2, y = x + 2 * 4;
        std::uint32_t const at =
            to + half * (8 * 128) + (place_ ^ static_cast<std::uint32_t>(b * 32));
        store_two_floats(at, odd_ ? acc[y] : acc[x], odd_ ? acc[y + 1] : acc[x + 1]);
        store_two_floats(at ^ 64, odd_ ? acc[x] : acc[y], odd_ ? acc[x + 1] : acc[y + 1]);
      }
    }
  }

 private:
  __device__ __forceinline__ static void store_two_floats(std::uint32_t at, float x, float y)
  {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(at), "f"(x), "f"(y) : "memory");
  }

  bool odd_;
  std::uint32_t place_;
};

// By one thread, for its warp: 16 rows of a box, as part of its next group of bulk copies.
template <class T, class G>
__device__ __forceinline__ void store_gradient_box(WeightsProduct<T, G> const& args,
                                                   std::int32_t const (&at)[3],
                                                   unsigned char const* from)
{
  using namespace cuda::ptx;
  if (!args.adds_here && args.adds()) {
    // This block alone adds to it, and once: the same sum as by a thread.
    cp_reduce_async_bulk_tensor(space_global, space_shared, op_add, &args.dw_map, at, from);
  } else {
    cp_async_bulk_tensor(space_global, space_shared, &args.dw_map, at, from);
  }
}

// The 64 x 256 results acc of a warpgroup, whose first row of dw(e) is `row`. A warp has its rows
// to itself: it waits for no other.
template <class T, class G, class Products>
__device__ __forceinline__ void store_gradients(WeightsProduct<T, G> const& args,
                                                Products& products,
                                                GradientPlace<G> const& place,
                                                WeightsTile const& tile,
                                                int row,
                                                float (&acc)[128])
{
  using Boxes        = GradientBoxes;
  constexpr int each = Boxes::columns<G>, most = Boxes::most<G>;
  int const columns = static_cast<int>(args.p.n) - tile.n0;
  int const rows    = static_cast<int>(threadIdx.x) % 128 / 32 * 16;  // this warp's first
  bool const add    = args.adds();
  if (!args.adds_here && !args.adds()) {
#pragma unroll
    for (float& x : acc) {
      x = 0.f + x;  // as the other kernels: no -0
    }
  }
#pragma unroll
  for (int part = 0; part <= Boxes::stages(most); ++part) {
    int const first = part == 0 ? 0 : Boxes::own + (part - 1) * Boxes::per_stage;
    int const last  = min(Boxes::own + part * Boxes::per_stage, most);
    if (first * each < columns) {
      unsigned char* const boxes = part == 0 ? products.take_boxes() : products.take_stage();
#pragma unroll
      for (int i = first; i < last; ++i) {
        if (i * each < columns) {
          place.put(shared_address(boxes + (i - first) * Boxes::bytes), i * (each / 8), acc, add);
        }
      }
      fence_shared_for_tensor_cores();  // the same for bulk copies
      __syncwarp();
      if (threadIdx.x % 32 == 0) {
#pragma unroll
        for (int i = first; i < last; ++i) {
          if (i * each < columns) {
            store_gradient_box(args,
                               {tile.n0 + i * each, row + rows, tile.expert},
                               boxes + (i - first) * Boxes::bytes + rows * 128);
          }
        }
      }
    }
  }
  products.template stored<Boxes::stages(most)>();
}

}  // namespace moe::detail
