// Compile at -O1: many worlds, little work in each.
// A rank that fails anywhere in a step whose rows, and small collectives, go through windows: every
// rank ends with that cause; a rank that stands still ends the others at the deadline.
#include <doctest/doctest.h>

#include <moe/comm/window_communicator.hpp>

#include "support/rank_faults.hpp"
#include "support/standing_rank.hpp"

using moe::Host, moe::index_t, moe::ThreadCommunicator, moe::ThreadWorld;
using moe::test::Batch;
using namespace moe::test::faults;

namespace {

template <class CapacityT, class DispatcherT>
auto layer_of(CapacityT capacity, DispatcherT const& dispatcher)
{
  return moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                    capacity,
                    dispatcher,
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = 1e-1}};
}

moe::DropByWeight<moe::CeilCapacity> drops()
{
  return moe::DropByWeight{moe::CeilCapacity{.factor = 0.8}};
}

Batch<float> batch()
{
  return Batch<float>::make(
      layer_of(moe::Dropless{}, moe::BatchedDispatcher<>{}), sizes, tokens, 1);
}

template <class CommT>
auto one_sided(CommT const& comm,
               int chunks,
               index_t choices,
               std::chrono::milliseconds deadline = std::chrono::milliseconds(0))
{
  return moe::AllToAllDispatcher(
      comm,
      {.chunks = chunks},
      moe::BatchedSchedule{},
      moe::OneSidedExchange<Host>(
          {.tokens = tokens, .choices = choices, .window = {.deadline = deadline}}));
}

std::vector<int> const all_worlds{2, 3, 4, 5, 6, 7, 8};

}  // namespace

TEST_CASE("rows stored into windows, in chunks")
{
  auto const whole = batch();
  auto const layer = [](auto const& comm, Host const&) {
    return layer_of(drops(), one_sided(comm, 3, 2 * tokens));
  };
  throw_everywhere("one-sided", layer, whole, all_worlds);
  throw_while_one_works("one-sided", layer, whole, {2, 3, 8});
  run_out_of_memory_everywhere("one-sided", layer, whole, {2, 3, 8});
}

TEST_CASE("small collectives over a window too, experts of a rank sharing their slots")
{
  auto const whole = batch();
  auto const layer = [](auto const& comm, Host const& exec) {
    moe::WindowCommunicator const small(exec, comm, {.bytes = 256});
    return layer_of(moe::RankCapacity{drops()}, one_sided(small, 1, 2 * tokens));
  };
  throw_everywhere("window communicator", layer, whole, all_worlds);
  throw_while_one_works("window communicator", layer, whole, {2, 3, 8});
  run_out_of_memory_everywhere("window communicator", layer, whole, {2, 3, 8});
}

TEST_CASE("experts that choose among the tokens of all ranks")
{
  auto const whole = batch();
  auto const layer = [](auto const& comm, Host const&) {
    return moe::Layer{moe::ExpertChoice{.factor = 1.5},
                      moe::Dropless{},
                      one_sided(comm, 1, sizes.experts * tokens),
                      moe::Ffn<moe::SwiGlu>{}};
  };
  throw_everywhere("expert choice", layer, whole, {2, 5, 8});
  run_out_of_memory_everywhere("expert choice", layer, whole, {2, 8});
}

TEST_CASE("a rank that stands still anywhere: a timeout that names what it did not do")
{
  auto const whole = batch();
  stand_still_everywhere(
      "windows",
      [](auto const& comm, Host const& exec) {
        moe::WindowCommunicator const small(
            exec, comm, {.bytes = 256, .deadline = standing_deadline});
        return layer_of(drops(), one_sided(small, 1, 2 * tokens, standing_deadline));
      },
      whole,
      all_worlds);
}
