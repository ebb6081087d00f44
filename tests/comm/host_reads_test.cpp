// What the host reads after a collective it reads when the communicator has waited for the ranks:
// where a peer is still, and the device would wait for ever, every rank ends with an error.
#include <doctest/doctest.h>

#include <random>

#include <moe/comm/decorators.hpp>
#include <moe/comm/host_groups.hpp>
#include <moe/expert_parallel.hpp>
#include <moe/moe.hpp>
#include <moe/plan/rank_capacity.hpp>

#include "comm/nccl_threads.hpp"
#include "support/plan_cases.hpp"

using namespace moe;
using namespace moe::test;

namespace {

// f(communicator) on two ranks: it works; then nothing that is enqueued is ever done, and each ends
// at the deadline of the first wait.
template <class F>
void check_waits(F const& f)
{
  on_world(2, f);
  MockNccl::reset();
  MockNccl::state().stream_hangs = true;
  int const id                   = MockCommunicator::make_id();
  NcclOptions const options{.deadline       = std::chrono::milliseconds(100),
                            .abort_deadline = std::chrono::seconds(20)};
  auto const ends = on_threads(2, [&](int r) { f(MockCommunicator(id, r, 2, options)); });
  for (auto const& end : ends) {
    CAPTURE(end.text);
    CHECK(end.kind == RankEnd::communication);
    CHECK(end.operation == "moe::NcclCommunicator::wait");
  }
  MockNccl::reset();
}

template <class CapacityT, class CommT>
void plan_with(CommT const& comm, CapacityT const& capacity)
{
  auto const exec = nccl_host();
  std::mt19937 rng(7);
  auto const part    = random_routes(rng, 9, 4, 2, Spread::random);
  auto const routing = to_routing<float>(exec, part);
  auto const A       = static_cast<index_t>(part.assignments());
  RoutingPlan<Host> plan(exec, SlotLayout::compact, part.experts, A, A);
  Tensor<float, 1, Host> row_max(exec, part.tokens);
  write(exec, part.row_max, row_max);
  make_plan(exec, comm, capacity, part.shape(), routing, row_max.const_view(), plan);
}

}  // namespace

TEST_CASE("a capacity that depends on the loads, of all ranks or of each")
{
  DropByWeight const as_loads{TutelCapacity{.factor = 0}};
  check_waits([&](MockCommunicator const& comm) { plan_with(comm, as_loads); });
  check_waits([&](MockCommunicator const& comm) { plan_with(comm, PerRank{as_loads}); });
}

TEST_CASE("the tokens of all ranks, on which a capacity depends")
{
  DropByWeight const capacity{CeilCapacity{.factor = 1}};
  check_waits([&](MockCommunicator const& comm) { plan_with(comm, capacity); });
}

TEST_CASE("two levels, by names and by hand")
{
  check_waits([](MockCommunicator const& comm) { (void)two_level(nccl_host(), comm); });
  check_waits([](MockCommunicator const& comm) { (void)two_level(nccl_host(), comm, 2); });
}

TEST_CASE("the norm of the gradient, for the host")
{
  check_waits([](MockCommunicator const& comm) {
    auto const exec = nccl_host();
    Layer const layer{
        SoftmaxTopK<2, renormalized>{}, Dropless{}, AllToAllDispatcher{comm}, Ffn<SwiGlu>{}};
    auto grads = layer.make_params<float>(exec, {.hidden = 4, .experts = 2, .expert = {.ffn = 3}});
    double const norm = layer.gradient_norm(exec, grads.view());
    CHECK(norm == 0);
  });
}

TEST_CASE("the calls of a layer's passes")
{
  check_waits([](MockCommunicator const& comm) {
    auto const exec = nccl_host();
    Layer const layer{
        SoftmaxTopK<2, renormalized>{}, Dropless{}, AllToAllDispatcher{comm}, Ffn<SwiGlu>{}};
    auto const params =
        layer.make_params<float>(exec, {.hidden = 4, .experts = 2, .expert = {.ffn = 3}});
    Tensor<float, 2, Host> x(exec, 3, 4), y(exec, 3, 4);
    exec.zero(x.view().data_handle(), x.bytes());
    layer.evaluate(exec, params, x.const_view(), y.view());
  });
}

TEST_CASE("a communicator around it waits as it does, and tells what it tells")
{
  check_waits([](MockCommunicator const& comm) {
    (void)two_level(nccl_host(), RecordingCommunicator(comm), 2);
  });
  check_waits([](MockCommunicator const& comm) {
    (void)two_level(nccl_host(), DelayedCommunicator(comm, std::chrono::microseconds(1)));
  });
  check_waits([](MockCommunicator const& comm) {
    FailingCommunicator const around(comm, 0);
    try {
      around.wait(nccl_host());
    } catch (CommunicationError const&) {
      CHECK_THROWS_AS(around.check(), CommunicationError);
      throw;
    }
    around.check();
  });
}
