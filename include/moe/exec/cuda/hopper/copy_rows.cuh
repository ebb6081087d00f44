#pragma once
// The copying warpgroup of a rows product: tiles of w by tensor maps, rows of a likewise or,
// through their index, by copies of 16 bytes.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/instructions.cuh>
#include <moe/exec/cuda/hopper/rows_product.cuh>
#include <moe/exec/cuda/mma.cuh>
#include <moe/exec/cuda/wgmma.cuh>

namespace moe::detail {

// Rows of a that an index names, to the A part of a stage; each thread copies one piece of 16 bytes
// of eight rows. Rows that are not there, or that are zeros, and k's past the end become zeros.
template <class T>
class GatheredCopies {
 public:
  __device__ explicit GatheredCopies(int thread) : piece_{thread % 8}, first_row_{thread / 8} {}

  // Asks where a tile's rows are, to know it when the tile starts.
  __device__ __forceinline__ void find(StoredRows<T> const& rows, GroupedTile const& tile)
  {
#pragma unroll
    for (int i = 0; i < pieces; ++i) {
      Id const r = tile.m0 + first_row_ + i * row_step;
      at_[i]     = r < tile.m1 ? rows.index[r] : -1;
    }
  }
  __device__ __forceinline__ void start(StoredRows<T> const& rows, int k)
  {
    auto const row_pieces = static_cast<std::uint32_t>(rows.stride / 8);
    from_                 = reinterpret_cast<Piece const*>(rows.base) + piece_;
    k_left_               = k - piece_ * 8;
#pragma unroll
    for (int i = 0; i < pieces; ++i) {
      row_[i] = at_[i] < 0 ? zeros : static_cast<std::uint32_t>(at_[i]) * row_pieces;
    }
  }
  // The next 64 k's.
  __device__ __forceinline__ void copy(std::uint32_t a_tile)
  {
    std::uint32_t const live = k_left_ > 0 ? zeros : 0;
    std::uint32_t const to   = a_tile + ATile::offset(first_row_, piece_);
#pragma unroll
    for (int i = 0; i < pieces; ++i) {
      copy_async_16(to + i * row_step * ATile::row_bytes, from_ + row_[i], row_[i] < live);
    }
    from_ += ATile::row_pieces;
    k_left_ -= HopperTile::depth;
  }

 private:
  using ATile = SharedTile<Major::k, HopperTile::rows, HopperTile::depth>;
  struct Piece {
    T items[8];
  };
  static constexpr std::uint32_t zeros = ~0u;
  static constexpr int row_step        = HopperTile::copying / ATile::row_pieces;
  static constexpr int pieces          = HopperTile::rows / row_step;  // of a thread
  static_assert(row_step % 8 == 0, "so that all of a thread's pieces are exchanged alike");

  int piece_, first_row_;
  Piece const* from_ = nullptr;  // this thread's piece of the next step, in row 0
  std::uint32_t row_[pieces];    // in pieces from row 0, or zeros: 32 bits reach 64 GiB
  Id at_[pieces];                // of the next tile; -1: zeros
  int k_left_ = 0;
};

// w's part of a step, or half of it for both blocks of a cluster.
template <Major MajorB, class Product, class Tuning>
__device__ __forceinline__ void copy_w_boxes(
    Product const& args, HopperMemory<Tuning>& memory, int stage, GroupedTile const& tile, int k0)
{
  // A box of `rows` of w, or of 64 columns.
  constexpr int parts = Product::parts, rows = w_box_rows<Product, Tuning>;
  constexpr int boxes = HopperTile::columns / (MajorB == Major::k ? rows : 64);
  constexpr int mine  = boxes / Tuning::cluster;
  static_assert(MajorB == Major::k || parts == 1);
  int const first = Tuning::cluster == 1 ? 0 : static_cast<int>(blockIdx.x) % 2 * mine;
#pragma unroll
  for (int i = 0; i < mine; ++i) {
    int const box                  = first + i;
    unsigned char* const to        = memory.b(stage) + box * (HopperTile::b_bytes / boxes);
    std::uint64_t* const full      = &memory.ring.full[stage];
    std::int32_t const by_k[3]     = {k0,
                                  parts == 1 ? tile.n0 + box * rows : tile.n0,
                                  parts == 1 ? tile.expert : tile.expert * parts + box};
    std::int32_t const by_lanes[3] = {tile.n0 + box * 64, k0, tile.expert};
    auto const& at                 = MajorB == Major::k ? by_k : by_lanes;
    if constexpr (Tuning::cluster == 1) {
      load_box<3>(args.w_map, at, to, full);
    } else {
      load_box_to_blocks<3>(args.w_map, at, to, full, 3);
    }
  }
}

// By one thread: w's part of a step, and a's where its rows lie side by side. Boxes past the
// matrices' ends are zeros.
template <Major MajorB, class Product, class Tuning>
__device__ __forceinline__ void copy_boxes(Product const& args,
                                           HopperMemory<Tuning>& memory,
                                           int stage,
                                           GroupedTile const& tile,
                                           int k0,
                                           bool gathered)
{
  std::uint64_t* const full = &memory.ring.full[stage];
  int const rows            = tile.m1 - tile.m0;
  int const a_boxes         = gathered || rows <= 0 ? 0 : rows > 64 ? 2 : 1;
  memory.ring.fill(stage, HopperTile::b_bytes + a_boxes * (HopperTile::a_bytes / 2));
  copy_w_boxes<MajorB>(args, memory, stage, tile, k0);
#pragma unroll 1
  for (int box = 0; box < a_boxes; ++box) {
    load_box<2>(args.a_map,
                {k0, tile.m0 + box * 64},
                memory.a(stage) + box * (HopperTile::a_bytes / 2),
                full);
  }
}

template <Major MajorB, class Product, class Tuning>
__device__ __forceinline__ void copy_row_tiles(Product const& args,
                                               HopperMemory<Tuning>& memory,
                                               int thread)
{
  using T             = typename Product::element;
  bool const gathered = args.p.a.index != nullptr;
  if (!gathered && thread >= 32) { return; }  // one warp, for the walk; one thread of it copies
  int const k = static_cast<int>(args.p.k);
  RowTileWalk walk(
      args.p.groups, args.order, HopperTile::columns / Product::parts, Tuning::cluster);
  GatheredCopies<T> gather(thread);
  RingPlace at;
  auto const arrive = [&] {
    if (gathered) { arrive_after_copies(&memory.ring.full[at.stage]); }
    at.step<Tuning::stages>();
  };
  auto tile = walk.next();
  if (gathered) { gather.find(args.p.a, tile); }
  while (tile.expert >= 0) {
    if (gathered) { gather.start(args.p.a, k); }
    GroupedTile next{};
    for (int k0 = 0; k0 < k; k0 += HopperTile::depth) {
      memory.ring.wait_empty(at);
      if (thread == 0) {
        if (k0 == 0) { memory.tile[at.stage] = tile; }
        copy_boxes<MajorB>(args, memory, at.stage, tile, k0, gathered);
      }
      if (gathered) { gather.copy(shared_address(memory.a(at.stage))); }
      arrive();
      if (k0 == 0) {  // the next tile is looked for while there is time
        __syncwarp();
        next = walk.next();
        if (gathered) { gather.find(args.p.a, next); }
      }
    }
    if constexpr (Product::store_reads) {
      int const columns = static_cast<int>(args.p.n) - tile.n0;
      for (int n = 0; n < HopperTile::columns && n < columns; n += 64) {
        memory.ring.wait_empty(at);
        if (thread == 0) { copy_for_store(args, memory, at.stage, tile, n); }
        arrive();
      }
    }
    tile = next;
  }
  memory.ring.wait_empty(at);
  if (thread == 0) {
    memory.tile[at.stage].expert = -1;
    memory.ring.fill(at.stage, 0);
  }
  arrive();
  if (gathered) {  // no copies may be on their way when the thread ends
    commit_copies();
    wait_copies<0>();
  }
}

}  // namespace moe::detail
