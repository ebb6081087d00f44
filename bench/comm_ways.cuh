#pragma once
// Ways of bytes between ranks that are threads, as comm.cu lists them.
#include <algorithm>
#include <type_traits>

#include <moe/comm/cuda/thread_window.cuh>
#include <moe/comm/window_communicator.hpp>
#include <moe/expert_parallel.hpp>
#include <moe/moe.cuh>

namespace moe_bench {

using moe::Cuda;
using moe::index_t;
using moe::ThreadCommunicator;
using moe::View;

// The same from a rank's buffers on every rank: `part` bytes to each, send and receive (P * part).
struct Buffers {
  Buffers(Cuda const& e, int ranks, index_t part_bytes)
      : exec{e}, P{ranks}, part{part_bytes}, send(exec, P * part), receive(exec, P * part)
  {
    exec.zero(send.view().data_handle(), send.bytes());
    exec.zero(receive.view().data_handle(), receive.bytes());
  }
  template <class T>
  [[nodiscard]] View<T const, 1, Cuda> sent(index_t bytes) const
  {
    return View<T const, 1, Cuda>(reinterpret_cast<T const*>(send.const_view().data_handle()),
                                  bytes / index_t{sizeof(T)});
  }
  template <class T>
  [[nodiscard]] View<T, 1, Cuda> received(index_t bytes)
  {
    return View<T, 1, Cuda>(reinterpret_cast<T*>(receive.view().data_handle()),
                            bytes / index_t{sizeof(T)});
  }
  [[nodiscard]] index_t all() const { return P * part; }

  Cuda exec;
  int P;
  index_t part;
  moe::Tensor<std::byte, 1, Cuda> send, receive;
};

// A way: an object for each rank, made by all of them together, whose calls are moves.
template <class CommT>
class AllToAll {
 public:
  static constexpr int moves = 1;  // of a buffer
  AllToAll(ThreadCommunicator const& comm, Buffers& buffers)
      : comm_{made(comm, buffers)}, buffers_{buffers}
  {
  }
  void operator()() const
  {
    comm_.all_to_all(buffers_.exec,
                     buffers_.sent<std::byte>(buffers_.all()),
                     buffers_.received<std::byte>(buffers_.all()));
  }

 private:
  static CommT made(ThreadCommunicator const& comm, [[maybe_unused]] Buffers const& buffers)
  {
    if constexpr (std::same_as<CommT, ThreadCommunicator>) {
      return comm;
    } else {
      return CommT(buffers.exec, comm);
    }
  }

  CommT comm_;
  Buffers& buffers_;
};
using Small                            = moe::WindowCommunicator<ThreadCommunicator, Cuda>;
inline constexpr index_t most_of_small = moe::WindowCommunicatorOptions{}.bytes;  // for each rank

class GatherScatter {
 public:
  static constexpr int moves = 2;
  GatherScatter(ThreadCommunicator const& comm, Buffers& buffers) : comm_{comm}, buffers_{buffers}
  {
  }
  void operator()() const
  {
    using T = moe::BFloat16;
    comm_.all_gather(
        buffers_.exec, buffers_.sent<T>(buffers_.part), buffers_.received<T>(buffers_.all()));
    comm_.reduce_scatter_sum(
        buffers_.exec, buffers_.sent<T>(buffers_.all()), buffers_.received<T>(buffers_.part));
  }

 private:
  ThreadCommunicator comm_;
  Buffers& buffers_;
};

template <class ExchangeT>
class Exchanged {
 public:
  static constexpr int moves = 1;
  Exchanged(ThreadCommunicator const& comm, Buffers& buffers)
      : comm_{comm},
        buffers_{buffers},
        exchange_{make(comm)},
        blocks_{even(buffers)},
        route_{exchange_.make_route(buffers.exec, comm, blocks_)}
  {
  }
  void operator()() const
  {
    exchange_.to_experts(buffers_.exec,
                         comm_,
                         blocks_,
                         route_,
                         row,
                         buffers_.sent<std::byte>(buffers_.all()),
                         buffers_.received<std::byte>(buffers_.all()));
  }

 private:
  static constexpr index_t row = 512;

  static ExchangeT make([[maybe_unused]] ThreadCommunicator const& comm)
  {
    if constexpr (std::is_constructible_v<ExchangeT, ThreadCommunicator const&, int>) {
      return ExchangeT(comm, std::max(1, comm.size() / 2));
    } else {
      return {};
    }
  }
  static moe::RowBlocks even(Buffers const& buffers)
  {
    moe::RowBlocks blocks(static_cast<std::size_t>(buffers.P));
    std::fill(blocks.sent.begin(), blocks.sent.end(), buffers.part / row);
    std::fill(blocks.received.begin(), blocks.received.end(), buffers.part / row);
    blocks.lay_out();
    return blocks;
  }

  ThreadCommunicator comm_;
  Buffers& buffers_;
  ExchangeT exchange_;
  moe::RowBlocks blocks_;
  typename ExchangeT::Route route_;
};

// Part r of `from` (P, words) into place `to` of rank r's window; blockIdx.y goes over the ranks,
// each beginning with another.
static __global__ void store_kernel(uint4 const* from,
                                    moe::WindowView window,
                                    index_t words,
                                    index_t to)
{
  int const r        = (window.rank + static_cast<int>(blockIdx.y)) % window.size;
  auto* const there  = reinterpret_cast<uint4*>(window.of(r)) + to * words;
  auto const* mine   = from + r * words;
  index_t const step = index_t{blockDim.x} * gridDim.x;
  constexpr int each = 4;  // loads before the first store
  for (index_t i = index_t{blockIdx.x} * blockDim.x + threadIdx.x; i < words; i += each * step) {
    uint4 v[each];
#pragma unroll
    for (int u = 0; u < each; ++u) {
      v[u] = i + u * step < words ? mine[i + u * step] : uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int u = 0; u < each; ++u) {
      if (i + u * step < words) { there[i + u * step] = v[u]; }
    }
  }
}

// Two halves in turn: who has signalled a move has waited for the one before.
class WindowStores {
 public:
  static constexpr int moves = 1;
  WindowStores(ThreadCommunicator const& comm, Buffers& buffers)
      : buffers_{buffers},
        window_{comm.window(buffers.exec, static_cast<std::size_t>(2 * buffers.all()))}
  {
  }
  void operator()()
  {
    index_t const words = buffers_.part / index_t{sizeof(uint4)};
    // Some 64 blocks in all fill the links; a small part has fewer.
    auto const most   = std::max(1, 64 / buffers_.P);
    auto const blocks = std::clamp<index_t>(words / threads_of_block, 1, most);
    dim3 const grid(static_cast<unsigned>(blocks), static_cast<unsigned>(buffers_.P));
    store_kernel<<<grid, threads_of_block, 0, buffers_.exec.stream()>>>(
        reinterpret_cast<uint4 const*>(buffers_.send.const_view().data_handle()),
        window_.view(),
        words,
        half_ * buffers_.P + window_.rank());
    MOE_CUDA_TRY(cudaGetLastError());
    window_.signal(buffers_.exec, 0);
    window_.wait(buffers_.exec, 0);
    half_ = 1 - half_;
  }

 private:
  static constexpr int threads_of_block = 512;

  Buffers& buffers_;
  moe::Window<Cuda> window_;
  index_t half_ = 0;
};

}  // namespace moe_bench
