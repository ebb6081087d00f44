#pragma once
// The copying warpgroup of a product of weights' gradients: 64 rows of both operands at a time, the
// columns of a tile of them, by ragged tensor maps or, through an index, by copies of 16 bytes.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda/hopper/copy_gradients.cuh>
#include <moe/exec/cuda/hopper/instructions.cuh>
#include <moe/exec/cuda/hopper/weights_product.cuh>
#include <moe/exec/cuda/mma.cuh>

namespace moe::detail {

// Lanes columns of rows that an index names, to a part of a stage; each thread copies one piece of
// 16 bytes of every 64 columns of four rows. Rows that are not there, or that are zeros, and
// columns past the end become zeros.
template <class T, int Lanes>
class GatheredColumns {
 public:
  __device__ GatheredColumns(StoredRows<T> const& rows, int thread)
      : rows_{rows}, piece_{thread % 8}, first_row_{thread / 8}
  {
  }

  __device__ __forceinline__ void start(Id lane0, index_t lane_end, Id k0, Id k1)
  {
    from_   = reinterpret_cast<char const*>(rows_.base + lane0) + piece_ * 16;
    chunks_ = (static_cast<int>(lane_end) - lane0 - piece_ * 8 + 63) / 64;
    k_      = k0 + first_row_;
    k_end_  = k1;
    find_rows();
  }
  // The next 64 rows.
  __device__ __forceinline__ void copy(std::uint32_t tile)
  {
    std::uint32_t const to = tile + Tile::offset(first_row_, piece_);
    Id row[rows];
#pragma unroll
    for (int i = 0; i < rows; ++i) {
      row[i] = row_[i];
    }
    k_ += HopperTile::depth;
    find_rows();
#pragma unroll
    for (int i = 0; i < rows; ++i) {
      char const* const from = from_ + index_t{row[i]} * (rows_.stride * 2);
      int const live         = row[i] >= 0 ? chunks_ : 0;
#pragma unroll
      for (int chunk = 0; chunk < Lanes / 64; ++chunk) {
        copy_async_16(to + i * row_step * Tile::row_bytes + chunk * Tile::chunk_bytes,
                      from + chunk * Tile::row_bytes,
                      chunk < live);
      }
    }
  }

 private:
  using Tile                    = SharedTile<Major::lanes, Lanes, HopperTile::depth>;
  static constexpr int row_step = HopperTile::copying / 8;
  static constexpr int rows     = HopperTile::depth / row_step;  // of a thread
  static_assert(row_step % 8 == 0, "so that all of a thread's pieces are exchanged alike");

  // Those of the next copy, a step ahead of it, so that their index has arrived by then.
  __device__ __forceinline__ void find_rows()
  {
#pragma unroll
    for (int i = 0; i < rows; ++i) {
      Id const k = k_ + i * row_step;
      row_[i]    = k < k_end_ ? rows_.index[k] : -1;
    }
  }

  StoredRows<T> const& rows_;
  int piece_, first_row_;
  char const* from_ = nullptr;  // this thread's piece of row 0
  int chunks_       = 0;        // of 64 columns, in which it has columns that exist
  Id k_ = 0, k_end_ = 0;
  Id row_[rows];  // -1: zeros
};

// How many boxes of 64 columns, at most `most`, have any that exist.
__device__ __forceinline__ int column_boxes(index_t lane_end, Id lane0, int most)
{
  int const lanes = static_cast<int>(lane_end) - lane0;
  return lanes < most * 64 ? (lanes + 63) / 64 : most;
}
// By one thread: 64 rows from k on, of which those past `end` become zeros, whatever is there.
__device__ __forceinline__ void copy_column_boxes(CUtensorMap const& map,
                                                  int boxes,
                                                  Id lane0,
                                                  Id k,
                                                  Id end,
                                                  unsigned char* to,
                                                  std::uint64_t* full)
{
  for (int box = 0; box < boxes; ++box) {
    load_ragged_box(map, lane0 + box * 64, k, end, to + box * (HopperTile::depth * 128), full);
  }
}

template <class T, class G, class Tuning>
__device__ __forceinline__ void copy_column_tiles(WeightsProduct<T, G> const& args,
                                                  WeightsMemory<Tuning>& memory,
                                                  int thread)
{
  constexpr int depth = HopperTile::depth;
  auto const& p       = args.p;
  bool const gather_a = p.a.index != nullptr, gather_b = p.b.index != nullptr;
  bool const gathered = gather_a || gather_b;
  if (!gathered && thread > 0) { return; }  // one thread has all copied
  WeightsTileWalk walk(p.groups, args.order, p.result == Result::overwrite);
  GatheredColumns<T, HopperTile::rows> a(p.a, thread);
  GatheredColumns<T, HopperTile::columns> b(p.b, thread);
  OldGradients<T, G, Tuning> old(args, memory);  // of thread 0
  RingPlace at;
  auto const arrive = [&] {
    if (gathered) { arrive_after_copies(&memory.ring.full[at.stage]); }
    at.step<Tuning::stages>();
  };
  while (true) {
    auto const tile = walk.next();
    if (tile.expert < 0) { break; }
    if (gather_a) { a.start(tile.m0, p.m, tile.k0, tile.k1); }
    if (gather_b) { b.start(tile.n0, p.n, tile.k0, tile.k1); }
    int const a_boxes = gather_a ? 0 : column_boxes(p.m, tile.m0, HopperTile::rows / 64);
    int const b_boxes = gather_b ? 0 : column_boxes(p.n, tile.n0, HopperTile::columns / 64);
    // A tile without rows has a step of zeros.
    int const steps = max((tile.k1 - tile.k0 + depth - 1) / depth, 1);
    int const ask   = old.ask_after(steps);
    for (int step = 0; step < steps; ++step) {
      memory.ring.wait_empty(at);
      if (thread == 0) {
        Id const k                = tile.k0 + step * depth;
        std::uint64_t* const full = &memory.ring.full[at.stage];
        if (step == 0) { memory.tile[at.stage] = tile; }
        memory.ring.fill(at.stage, (a_boxes + b_boxes) * (depth * 128));
        copy_column_boxes(args.a_map, a_boxes, tile.m0, k, tile.k1, memory.a(at.stage), full);
        copy_column_boxes(args.b_map, b_boxes, tile.n0, k, tile.k1, memory.b(at.stage), full);
      }
      if (gather_a) { a.copy(shared_address(memory.a(at.stage))); }
      if (gather_b) { b.copy(shared_address(memory.b(at.stage))); }
      arrive();
      if (thread == 0 && step == ask) { old.to_own_boxes(tile); }
    }
    int const boxes = GradientBoxes::count<G>(static_cast<int>(p.n) - tile.n0);
    for (int stages = GradientBoxes::stages(boxes), i = 0; i < stages; ++i) {
      memory.ring.wait_empty(at);
      if (thread == 0) { old.to_stage(tile, i, at.stage); }
      arrive();
    }
    __syncwarp();
  }
  memory.ring.wait_empty(at);
  if (thread == 0) {
    memory.tile[at.stage].expert = -1;
    memory.ring.fill(at.stage, 0);
  }
  arrive();
  if (gathered) {
    commit_copies();
    wait_copies<0>();  // none may be on its way when the thread ends
  }
}

}  // namespace moe::detail
