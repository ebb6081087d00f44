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
//   one_sided       OneSidedExchange's rows of up to 8 KiB: store, signal, wait in one launch
//   nccl            ncclSend and ncclRecv in a group, where there is NCCL and a GPU for each rank
//   nccl_all_to_all ncclAlltoAll, where NCCL has it
#include <chrono>

#include "comm_one_sided.cuh"
#include "comm_ways.cuh"
#include "main.hpp"
#include "ranks.cuh"
#if defined(MOE_BENCH_WITH_NCCL)
#include "comm_nccl.cuh"
#endif

namespace moe_bench {
namespace {

constexpr int batches = 9;  // of moves, each between two events

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
          move();  // which the ranks begin apart and end together
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
  std::vector<index_t> sizes;
  for (index_t bytes = index_t{4} << 10; bytes < index_t{256} << 20; bytes *= 4) {
    sizes.push_back(bytes);
  }
  sizes.insert(sizes.end(), {index_t{128} << 20, index_t{256} << 20});
  for (index_t const bytes : sizes) {
    if (bytes > most || bytes / P < 512) { continue; }
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
    add<OneSided>(P, "one_sided");
#if defined(MOE_BENCH_WITH_NCCL)
    if (P <= gpus()) {
      add<NcclSends>(P, "nccl");
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
      add<NcclAllToAll>(P, "nccl_all_to_all");
#endif
    }
#endif
  }
}

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv, &moe_bench::add_all);
}
