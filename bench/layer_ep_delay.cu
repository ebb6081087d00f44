// One rank of four on one GPU. Its work is all there: the plan, packing, the T K rows that arrive
// at its E/4 experts, the combine. Instead of moving rows an exchange waits on the device as long
// as they were on their way between four H200 with torch's NCCL all-to-all
// (peers/bench_peers_ep.py), so that what overlap hides can be measured without the other three.
//
//   layer_ep_delay/<shape>/chunks<n>
//
// A row's time is forward and backward in n chunks. Counters, with forward_ for forward alone:
// communication_s, the waits alone; unchunked_s, one chunk and no wait; and bound_ratio, the row's
// time over the larger of the two, 1 if all that can be hidden is.
#include <cstdlib>

#include "delayed_peers.cuh"
#include "fill_once.cuh"
#include "layer_ep.cuh"

namespace moe_bench::ep {
namespace {

constexpr int K = 8;

// Multiprocessors that the experts leave to the waits; MOE_BENCH_SPARE is others.
int spared()
{
  char const* const text = std::getenv("MOE_BENCH_SPARE");
  return text == nullptr ? 2 : std::atoi(text);
}

// `communication`: of a forward pass, so of two ways.
void row(benchmark::State& state, Shape const& shape, double communication, int chunks)
{
  index_t const rows   = shape.tokens * K;
  double const one_way = communication / 2;
  use_gpu_of(0, 1);
  FillOnce memory(0);
  {
    Cuda const exec(nullptr, {.resource = &memory});
    auto const layer = [&](double seconds, int n) {
      return layer_of<K>(moe::AllToAllDispatcher(
          MirrorCommunicator{},
          {.compare_calls = false, .chunks = n, .spare_multiprocessors = spared()},
          moe::BatchedSchedule{},
          DelayExchange(seconds, rows),
          moe::EachChoice{}));
    };
    auto plain      = rank_case<K>(exec, layer(0, 1), shape);
    auto overlapped = rank_case<K>(exec, layer(one_way, chunks), shape);
    auto const wait = [&](int ways) {
      for (int i = 0; i < ways; ++i) {
        delay(exec, one_way);
      }
    };
    auto const seconds = seconds_in_turns(exec,
                                          {[&] { wait(2); },
                                           [&] { wait(4); },
                                           [&] { plain.forward(exec); },
                                           [&] { plain.both(exec); },
                                           [&] { overlapped.forward(exec); },
                                           [&] { overlapped.both(exec); }});
    set_time(state, seconds[5]);
    auto& counters                      = state.counters;
    counters["forward_s"]               = seconds[4];
    counters["forward_communication_s"] = seconds[0];
    counters["communication_s"]         = seconds[1];
    counters["forward_unchunked_s"]     = seconds[2];
    counters["unchunked_s"]             = seconds[3];
    counters["forward_bound_ratio"]     = seconds[4] / std::max(seconds[0], seconds[2]);
    counters["bound_ratio"]             = seconds[5] / std::max(seconds[1], seconds[3]);
    state.SetLabel("one rank of 4, its peers' rows delayed");
    exec.synchronize();
  }
}

void add(Shape const& shape, double communication)
{
  for (int const chunks : {2, 4, 6, 8}) {
    add_row("layer_ep_delay/" + std::string(shape.name) + "/chunks" + std::to_string(chunks),
            [=](benchmark::State& state) { row(state, shape, communication, chunks); });
  }
}

}  // namespace

void add_delayed()
{
  add(dsv3_64, 4.23e-3);
  add(qwen3_32k, 6.82e-3);
  add(qwen3, 1.34e-3);
  add(olmoe, 1.31e-3);
}

}  // namespace moe_bench::ep
