// What moves rows between P ranks that are threads of this process:
//
//   comm/P<P>/<way>/<bytes>
//
// `bytes` are of a rank's whole buffer of P equal parts, its own among them. A row's time is that
// of one move of the slowest rank, of many queued back to back; bytes/s is what leaves a rank.
//
//   all_to_all      the communicator's
//   small           WindowCommunicator's, of what goes over its window
//   flat            FlatExchange, rows of 512 bytes
//   hierarchical    HierarchicalExchange as of two hosts of P/2
//   gather_scatter  all_gather and reduce_scatter_sum of bfloat16, a buffer each: moves it twice
//   window          a kernel that stores 16 bytes at a time into the peers' windows, signal, wait
//   nccl            ncclSend and ncclRecv in a group, where there is NCCL and a GPU for each rank
#include <chrono>

#include <moe/comm/cuda/thread_window.cuh>
#include <moe/comm/window_communicator.hpp>
#include <moe/expert_parallel.hpp>

#include "data.hpp"
#include "main.hpp"
#include "ranks.cuh"
#if defined(MOE_BENCH_WITH_NCCL)
#include <map>

#include <nccl.h>
#endif

namespace moe_bench {
namespace {

using moe::ThreadCommunicator;
using moe::View;

constexpr int batches = 9;  // of moves, each between two events

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
using Small                     = moe::WindowCommunicator<ThreadCommunicator, Cuda>;
constexpr index_t most_of_small = moe::WindowCommunicatorOptions{}.bytes;  // for each rank

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
__global__ void store_kernel(uint4 const* from, moe::WindowView window, index_t words, index_t to)
{
  int const r        = (window.rank + static_cast<int>(blockIdx.y)) % window.size;
  auto* const there  = reinterpret_cast<uint4*>(window.of(r)) + to * words;
  auto const* mine   = from + r * words;
  index_t const step = index_t{blockDim.x} * gridDim.x;
  for (index_t i = index_t{blockIdx.x} * blockDim.x + threadIdx.x; i < words; i += step) {
    there[i] = mine[i];
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

#if defined(MOE_BENCH_WITH_NCCL)

inline void nccl_try(ncclResult_t result)
{
  if (result != ncclSuccess) {
    throw moe::StateError("comm", "NCCL", ncclGetErrorString(result), "success");
  }
}

// Communicators of all GPUs of this process, made once for each number of ranks and kept.
inline std::vector<ncclComm_t> const& nccl_world(int P)
{
  static std::map<int, std::vector<ncclComm_t>> worlds;
  auto& world = worlds[P];
  if (world.empty()) {
    std::vector<ncclComm_t> made(static_cast<std::size_t>(P));
    nccl_try(ncclCommInitAll(made.data(), P, nullptr));
    world = made;
  }
  return world;
}

class NcclSends {
 public:
  static constexpr int moves = 1;
  static void prepare(int P) { (void)nccl_world(P); }  // before ranks are threads
  NcclSends(ThreadCommunicator const& comm, Buffers& buffers)
      : buffers_{buffers}, nccl_{nccl_world(comm.size())[static_cast<std::size_t>(comm.rank())]}
  {
  }
  void operator()() const
  {
    auto const n = static_cast<std::size_t>(buffers_.part);
    nccl_try(ncclGroupStart());
    for (int r = 0; r < buffers_.P; ++r) {
      nccl_try(ncclSend(buffers_.send.const_view().data_handle() + r * buffers_.part,
                        n,
                        ncclInt8,
                        r,
                        nccl_,
                        buffers_.exec.stream()));
      nccl_try(ncclRecv(buffers_.receive.view().data_handle() + r * buffers_.part,
                        n,
                        ncclInt8,
                        r,
                        nccl_,
                        buffers_.exec.stream()));
    }
    nccl_try(ncclGroupEnd());
  }

 private:
  Buffers& buffers_;
  ncclComm_t nccl_;
};

#endif

template <class WayT>
void row(benchmark::State& state, int P, index_t bytes)
{
  index_t const part = bytes / P / 512 * 512;
  std::vector<std::vector<double>> seconds(static_cast<std::size_t>(P));
  if constexpr (requires { WayT::prepare(P); }) { WayT::prepare(P); }
  moe::ThreadWorld(P, {.deadline = std::chrono::seconds(60)})
      .run([&](ThreadCommunicator const& comm) {
        use_gpu_of(comm.rank(), P);
        Cuda const exec;
        Buffers buffers(exec, P, part);
        WayT move(comm, buffers);
        for (int i = 0; i < 3; ++i) {
          move();
        }
        auto const moves = [&](index_t n) {
          return seconds_of(exec,
                            1,
                            [&] {
                              for (index_t i = 0; i < n; ++i) {
                                move();
                              }
                            })
              .front();
        };
        // Waited for batch by batch, so that what is queued has an end: a host that waits for room
        // in its stream's queue would keep a rank of the same GPU from launching what it waits for.
        double const once = std::max(moves(1), 1e-6);
        auto const of_batch =
            agree(comm, exec, static_cast<index_t>(std::clamp(0.05 / once, 2., 50.)));
        auto& mine = seconds[static_cast<std::size_t>(comm.rank())];
        for (int i = 0; i < batches; ++i) {
          mine.push_back(moves(of_batch) / static_cast<double>(of_batch));
        }
        exec.synchronize();
        (void)agree(comm, exec, 0);  // nobody's window goes while another works
      });
  double const time = median_of_slowest(seconds);
  label(state, P);
  set_time(state, time);
  state.counters["bytes/s"] = static_cast<double>(WayT::moves * part * (P - 1)) / time;
}

template <class WayT>
void add(int P, char const* name, index_t most = index_t{256} << 20)
{
  for (index_t bytes = index_t{4} << 10; bytes <= most; bytes *= 4) {
    if (bytes / P < 512) { continue; }
    add_row("comm/P" + std::to_string(P) + '/' + name + '/' + std::to_string(bytes),
            [=](benchmark::State& state) { row<WayT>(state, P, bytes); });
  }
}

void add_all()
{
  for (int const P : worlds()) {
    add<AllToAll<ThreadCommunicator>>(P, "all_to_all");
    add<AllToAll<Small>>(P, "small", P * most_of_small);
    add<Exchanged<moe::FlatExchange>>(P, "flat");
    if (P % 2 == 0) {
      add<Exchanged<moe::HierarchicalExchange<ThreadCommunicator>>>(P, "hierarchical");
    }
    add<GatherScatter>(P, "gather_scatter");
    add<WindowStores>(P, "window");
#if defined(MOE_BENCH_WITH_NCCL)
    if (P <= gpus()) { add<NcclSends>(P, "nccl"); }
#endif
  }
}

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv, &moe_bench::add_all);
}
