// Compile at -O1: many layers, little work in each.
// Ranks that are not called alike, or are given what is not theirs.
#include <doctest/doctest.h>

#include <mutex>

#include "support/rank_world.hpp"

using moe::Host, moe::ThreadCommunicator, moe::ThreadWorld;
using moe::test::run_rank;
using namespace moe::test::ranks;

TEST_CASE("ranks that run another layer are told so, all of them, at the first call")
{
  auto const whole = batch<float>(5);
  std::mutex mutex;
  std::vector<std::string> told;
  auto const run = [&](auto const& of_rank) {
    told.clear();
    ThreadWorld const world(3, {.deadline = std::chrono::seconds(20)});
    CHECK_THROWS_AS(world.run([&](ThreadCommunicator const& comm) {
      try {
        of_rank(comm);
      } catch (moe::CommunicationError const& e) {
        std::lock_guard const lock(mutex);
        told.emplace_back(e.what());
        throw;
      }
    }),
                    moe::CommunicationError);
    REQUIRE(told.size() == 3);
    CHECK(told[0] == told[1]);
    CHECK(told[0] == told[2]);
  };
  run([&](ThreadCommunicator const& comm) {
    auto other = whole;
    if (comm.rank() == 2) { other.sizes.expert.ffn = 18; }
    auto const layer = layer_of(moe::Dropless{}, moe::AllToAllDispatcher(comm));
    other.params.assign(other.params.size() * 2, 0.f);
    (void)run_rank<float>(layer, own(), other, {0, 4}, moe::experts_of_rank(6, 3, comm.rank()));
  });
  CHECK(told[0].find("parameters of all experts") != std::string::npos);
  CHECK(told[0].find("rank 2") != std::string::npos);
  run([&](ThreadCommunicator const& comm) {
    auto const mine = moe::experts_of_rank(6, 3, comm.rank());
    if (comm.rank() == 1) {
      (void)run_rank<float>(layer_of(moe::DropByWeight<>{}, moe::AllToAllDispatcher(comm)),
                            own(),
                            whole,
                            {0, 4},
                            mine);
    } else {
      (void)run_rank<float>(
          layer_of(moe::Dropless{}, moe::AllToAllDispatcher(comm)), own(), whole, {0, 4}, mine);
    }
  });
  CHECK(told[0].find("type of the layer") != std::string::npos);
}

TEST_CASE("parameters of other experts than this rank's are refused")
{
  auto const whole = batch<float>(6);
  ThreadWorld const world(2, {.deadline = std::chrono::seconds(20)});
  CHECK_THROWS_WITH_AS(world.run([&](ThreadCommunicator const& comm) {
    auto const layer = layer_of(moe::Dropless{}, moe::AllToAllDispatcher(comm));
    std::vector<float> y(whole.x.size());
    layer.evaluate(own(),
                   whole.param_views(layer),  // all six
                   whole.x_view(),
                   moe::View<float, 2, Host>(y.data(), tokens, sizes.hidden));
  }),
                       doctest::Contains("experts of this rank"),
                       moe::ShapeError);
}

TEST_CASE("hosts of unequal size are refused")
{
  CHECK_THROWS_AS(ThreadWorld(3).run([&](ThreadCommunicator const& comm) {
    moe::HierarchicalExchange const exchange(comm, 2);
  }),
                  moe::ShapeError);
}
