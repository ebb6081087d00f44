// Layers whose experts are spread over P ranks, threads of this process, bf16, medians of the
// slowest rank by CUDA events:
//
//   layer_ep/<shape>/P<P>/<exchange>/chunks<n>
//
// A row's time is forward and backward. Counters, of one rank: forward_s; FLOP/s and
// forward_FLOP/s; efficiency and forward_efficiency, the time of one rank alone with the E/P
// experts of a rank and as many rows, which go nowhere, over the row's. From a run of its own with
// a profiler, of the rank that communicates longest: communication_s and forward_communication_s,
// the wait for other ranks included, and overlap, the part of it beside which experts work.
//
// With one_sided rows go over windows, with one_sided_counts all else that ranks tell each other
// too; where each rank has a GPU.
#include <chrono>
#include <map>

#include <moe/comm/cuda/thread_window.cuh>
#include <moe/comm/window_communicator.hpp>
#include <moe/dispatch/one_sided_exchange.hpp>

#include "layer_ep.cuh"
#include "main.hpp"

namespace moe_bench::ep {
namespace {

// Ways of rows: what is called by all ranks for an exchange, what goes for a token, the
// multiprocessors that chunks' experts leave to it, and the communicator of everything else.
struct OverThreads {
  using Rows                  = moe::EachChoice;
  static constexpr int spared = 0;  // copies move rows
  static moe::ThreadCommunicator over(Cuda const&, moe::ThreadCommunicator const& comm)
  {
    return comm;
  }
};
struct Flat : OverThreads {
  static moe::FlatExchange make(moe::ThreadCommunicator const&, Shape const&) { return {}; }
};
struct Once : Flat {
  using Rows = moe::OncePerRank;
};
struct Hierarchical : OverThreads {  // two hosts of P/2
  static auto make(moe::ThreadCommunicator const& comm, Shape const&)
  {
    return moe::HierarchicalExchange(comm, comm.size() / 2);
  }
};
struct AllGather : OverThreads {
  static moe::AllGatherExchange make(moe::ThreadCommunicator const&, Shape const&) { return {}; }
};
struct OneSided : OverThreads {
  static constexpr int spared = moe::OneSidedOptions{}.multiprocessors;
  static moe::OneSidedExchange<Cuda> make(moe::ThreadCommunicator const&, Shape const& s)
  {
    return moe::OneSidedExchange<Cuda>({.tokens = s.tokens, .choices = s.tokens * s.top_k});
  }
};
struct OneSidedCounts : OneSided {  // no host waits for a device
  static auto over(Cuda const& exec, moe::ThreadCommunicator const& comm)
  {
    return moe::WindowCommunicator(exec, comm);
  }
};

template <int K>
Times alone(Shape const& shape, int P)
{
  static std::map<std::pair<std::string, int>, Times> known;
  auto const [at, is_new] = known.try_emplace({shape.name, P});
  if (is_new) {
    use_gpu_of(0, 1);
    Shape mine   = shape;
    mine.experts = (shape.experts + P - 1) / P;
    Cuda const exec;
    auto work =
        rank_case<K>(exec, layer_of<K>(moe::BatchedDispatcher<moe::BatchedSchedule>{}), mine);
    at->second = {
        median(seconds_on_rank(moe::SelfCommunicator{}, exec, [&] { work.forward(exec); })),
        median(seconds_on_rank(moe::SelfCommunicator{}, exec, [&] { work.both(exec); }))};
    exec.synchronize();
  }
  return at->second;
}

struct Seen {  // by each rank
  std::vector<std::vector<double>> forward, both;
  std::vector<moe::ProfileReport> report;
};

template <int K, class WayT>
void row(benchmark::State& state, Shape const& shape, int P, int chunks)
{
  auto const single = alone<K>(shape, P);
  auto const ranks  = static_cast<std::size_t>(P);
  Seen seen{std::vector<std::vector<double>>(ranks),
            std::vector<std::vector<double>>(ranks),
            std::vector<moe::ProfileReport>(ranks)};
  moe::ThreadWorld(P, {.deadline = std::chrono::seconds(60)})
      .run([&](moe::ThreadCommunicator const& comm) {
        use_gpu_of(comm.rank(), P);
        Cuda const exec;
        auto const exchange = WayT::make(comm, shape);
        moe::AllToAllDispatcher const dispatcher(
            WayT::over(exec, comm),
            {.compare_calls = false, .chunks = chunks, .spare_multiprocessors = WayT::spared},
            moe::BatchedSchedule{},
            exchange,
            typename WayT::Rows{});
        auto work       = rank_case<K>(exec, layer_of<K>(dispatcher), shape, comm.rank());
        auto const r    = static_cast<std::size_t>(comm.rank());
        seen.forward[r] = seconds_on_rank(comm, exec, [&] { work.forward(exec); });
        seen.both[r]    = seconds_on_rank(comm, exec, [&] { work.both(exec); });

        moe::CudaProfiler profiler;
        Cuda const profiled = exec.with(profiler);
        for (int i = 0; i < 5; ++i) {
          work.both(profiled);
          profiler.end_step();
        }
        seen.report[r] = profiler.report();
        (void)agree(comm, exec, 0);  // nobody's memory goes while another works
      });

  Times const times{median_of_slowest(seen.forward), median_of_slowest(seen.both)};
  auto const& report =
      *std::max_element(seen.report.begin(), seen.report.end(), [](auto const& a, auto const& b) {
        return a.communication_ms < b.communication_ms;
      });
  label(state, P);
  set_time(state, times.both);
  auto& counters                 = state.counters;
  counters["forward_s"]          = times.forward;
  counters["FLOP/s"]             = 3 * flops(shape) / times.both;
  counters["forward_FLOP/s"]     = flops(shape) / times.forward;
  counters["efficiency"]         = single.both / times.both;
  counters["forward_efficiency"] = single.forward / times.forward;
  counters["communication_s"]    = report.communication_ms / 1e3;
  counters["forward_communication_s"] =
      report.of(moe::Phase::forward, moe::Phase::communication).ms / 1e3;
  counters["overlap"]    = report.overlap;
  counters["bytes_sent"] = report.bytes_sent;
}

template <int K, class WayT>
void add(Shape const& shape, int P, char const* name, std::vector<int> const& of = {1, 2, 4})
{
  for (int const chunks : of) {
    if (chunks > 1 && chunks * P > shape.experts) { continue; }  // a chunk is some experts
    add_row("layer_ep/" + std::string(shape.name) + "/P" + std::to_string(P) + '/' + name +
                "/chunks" + std::to_string(chunks),
            [=](benchmark::State& state) { row<K, WayT>(state, shape, P, chunks); });
  }
}

}  // namespace

void add_worlds()
{
  for (int const P : worlds()) {
    for_each_shape([&](auto top_k, Shape const& shape) {
      constexpr int K = top_k();
      if (shape.experts < P) { return; }
      add<K, Flat>(shape, P, "flat");
      add<K, Once>(shape, P, "once_per_rank");
      if (P % 2 == 0) { add<K, Hierarchical>(shape, P, "hierarchical"); }
      add<K, AllGather>(shape, P, "all_gather", {1});
      // Ranks that share a GPU may not ask the driver for memory while others wait in a kernel.
      if (P <= gpus()) {
        add<K, OneSided>(shape, P, "one_sided");
        add<K, OneSidedCounts>(shape, P, "one_sided_counts");
      }
    });
  }
}

}  // namespace moe_bench::ep

namespace moe_bench {
namespace {

void add_all()
{
  ep::add_worlds();
  ep::add_delayed();
  ep::add_alone();
}

}  // namespace
}  // namespace moe_bench

int main(int argc, char** argv)
{
  return moe_bench::run(argc, argv, &moe_bench::add_all);
}
