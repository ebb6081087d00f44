// What a dispatcher for several ranks costs where there is one, against BatchedDispatcher, pass by
// pass in turns:
//
//   layer_ep_alone/<shape>/<thread|self>
//
// A row's time is forward and backward of AllToAllDispatcher; ratio and forward_ratio are its time
// over that of BatchedDispatcher.
#include "layer_ep.cuh"

namespace moe_bench::ep {
namespace {

template <int K, class CommT>
void row(benchmark::State& state, Shape const& shape, CommT const& comm)
{
  use_gpu_of(0, 1);
  Cuda const exec;
  auto local =
      rank_case<K>(exec, layer_of<K>(moe::BatchedDispatcher<moe::BatchedSchedule>{}), shape);
  auto ranks         = rank_case<K>(exec, layer_of<K>(moe::AllToAllDispatcher<CommT>(comm)), shape);
  auto const seconds = seconds_in_turns(exec,
                                        {[&] { local.forward(exec); },
                                         [&] { ranks.forward(exec); },
                                         [&] { local.both(exec); },
                                         [&] { ranks.both(exec); }});
  set_time(state, seconds[3]);
  auto& counters                = state.counters;
  counters["forward_s"]         = seconds[1];
  counters["batched_forward_s"] = seconds[0];
  counters["batched_s"]         = seconds[2];
  counters["forward_ratio"]     = seconds[1] / seconds[0];
  counters["ratio"]             = seconds[3] / seconds[2];
  exec.synchronize();
}

template <int K>
void add(Shape const& shape)
{
  auto const name = "layer_ep_alone/" + std::string(shape.name);
  add_row(name + "/thread", [=](benchmark::State& state) {
    row<K>(state, shape, moe::ThreadWorld(1).communicator(0));
  });
  add_row(name + "/self",
          [=](benchmark::State& state) { row<K>(state, shape, moe::SelfCommunicator{}); });
}

}  // namespace

void add_alone()
{
  add<2>(moe_bench::mixtral.full());
  add<8>(qwen3);
}

}  // namespace moe_bench::ep
