#pragma once
// ThreadCommunicator's collectives on Cuda. The threads meet on the host, and exchange there where
// each has staged its bytes and the event after that; the rest is in the order of their streams.
//
// No rank overwrites what another still reads: a rank writes the half of collective n again for
// n + 2. Before that its stream has waited for all ranks' events of n + 1, and each of those comes
// after that rank's reads of n: in the same stream, or, when a rank changes streams between
// collectives, because each one begins with a wait for the end of the one before.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <algorithm>

#include <moe/comm/cuda/thread_stages.cuh>
#include <moe/comm/cuda/thread_sum.cuh>
#include <moe/comm/thread_communicator.hpp>

namespace moe::detail {

template <>
class ThreadCall<Cuda> : public ThreadGroup::Call {
 public:
  static constexpr char const* space = "Cuda";
  static void refuse(Cuda const& exec, Check const& check)
  {
    if (exec.capturing()) {
      check.fail<StateError>("the stream",
                             "being captured into a graph",
                             "free: ranks that are threads meet on the host in every collective, "
                             "which a graph would not do again");
    }
  }

  ThreadCall(Cuda const& exec, ThreadGroup& group, int rank, Fingerprint const& fingerprint)
      : Call{group, rank, fingerprint},
        exec_{exec},
        stages_{group.stages<ThreadStages>()},
        stage_{stages_.of(rank)}
  {
    stage_.make(exec, {name_of(fingerprint.operation), world_rank()});
    half_ = stage_.sequence % 2;
    MOE_CUDA_TRY(cudaStreamWaitEvent(exec.stream(), stage_.done.get()));
  }
  // Also where a collective ends halfway, since what it enqueued may read or write staged bytes.
  ~ThreadCall()
  {
    if (stage_.device >= 0) { cuda_ignore(cudaEventRecord(stage_.done.get(), exec_.stream())); }
  }

  [[nodiscard]] std::byte* stage(std::size_t bytes)
  {
    return grown(stage_.halves[half_].bytes, "staged bytes", bytes);
  }
  void meet()
  {
    MOE_CUDA_TRY(cudaEventRecord(stage_.halves[half_].staged.get(), exec_.stream()));
    Call::meet();
    ++stage_.sequence;
    for (int r = 0; r < size(); ++r) {
      if (r != rank()) {
        MOE_CUDA_TRY(cudaStreamWaitEvent(exec_.stream(), half_of(r).staged.get()));
      }
    }
  }
  void read(void* to, int peer, std::size_t from, std::size_t bytes) const
  {
    std::byte const* const at = half_of(peer).bytes.data() + from;
    if (here(peer)) {
      exec_.copy(to, at, bytes);
    } else if (bytes > 0) {  // with or without access of one device to the other's memory
      MOE_CUDA_TRY(cudaMemcpyPeerAsync(
          to, exec_.device(), at, stages_.of(peer).device, bytes, exec_.stream()));
    }
  }
  // A kernel reads what is on this device; what is on another is copied here before.
  template <SumElement T>
  void sum(index_t first, View<T, 1, Cuda> x)
  {
    using Row         = SumPartsRow<T>;
    using S           = typename Row::S;
    bool const passes = size() > Row::most;
    std::size_t away  = 0;
    for (int r = 0; r < size(); ++r) {
      away += here(r) ? 0 : 1;
    }
    // In pieces where that takes memory, so that it does not take x's for every rank.
    index_t const piece = passes || away > 0 ? std::min(x.size(), index_t{1} << 22) : x.size();
    std::size_t const piece_bytes = aligned(static_cast<std::size_t>(piece) * sizeof(T));
    std::size_t const sum_bytes   = passes ? static_cast<std::size_t>(piece) * sizeof(S) : 0;
    std::byte* const scratch =
        grown(stage_.scratch, "bytes to sum in", away * piece_bytes + sum_bytes);
    S* const running = passes ? reinterpret_cast<S*>(scratch + away * piece_bytes) : nullptr;

    for (index_t begin = 0; begin < x.size(); begin += piece) {
      index_t const n        = std::min(piece, x.size() - begin);
      std::size_t const from = static_cast<std::size_t>(first + begin) * sizeof(T);
      std::byte* copied      = scratch;
      Row row{.out = x.data_handle() + begin, .elements = n};
      for (int r = 0; r < size(); ++r) {
        std::byte const* part = half_of(r).bytes.data() + from;
        if (!here(r)) {
          read(copied, r, from, static_cast<std::size_t>(n) * sizeof(T));
          part = copied;
          copied += piece_bytes;
        }
        row.parts[row.count++] = reinterpret_cast<T const*>(part);
        if (r == size() - 1 || row.count == Row::most) {
          row.running = r == size() - 1 ? nullptr : running;
          Row::launch(exec_, row);
          row.before = running;
          row.count  = 0;
        }
      }
    }
  }

 private:
  [[nodiscard]] static std::size_t aligned(std::size_t bytes) { return (bytes + 255) / 256 * 256; }
  [[nodiscard]] ThreadStage::Half const& half_of(int rank) const
  {
    return stages_.of(rank).halves[half_];
  }
  [[nodiscard]] bool here(int rank) const { return stages_.of(rank).device == exec_.device(); }
  [[nodiscard]] std::byte* grown(GrowingBytes& memory, char const* what, std::size_t bytes)
  {
    try {
      return memory.grown(exec_, bytes);
    } catch (OutOfMemoryError const&) {
      throw OutOfMemoryError(name_of(mine().fingerprint.operation),
                             what,
                             text_of(bytes),
                             "what the Cuda handle's memory resource can give",
                             world_rank());
    }
  }

  Cuda const& exec_;
  ThreadStages& stages_;
  ThreadStage& stage_;
  std::uint64_t half_ = 0;
};

}  // namespace moe::detail

namespace moe {
static_assert(ExchangeCommunicator<ThreadCommunicator, Cuda, float>);
}  // namespace moe
