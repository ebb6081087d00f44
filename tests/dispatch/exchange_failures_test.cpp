// Compile at -O1: many worlds, little work in each.
// A rank that fails anywhere in a step, whichever way rows travel in collectives: every rank ends
// with that cause.
#include <doctest/doctest.h>

#include "support/rank_faults.hpp"

using moe::Host, moe::test::Batch;
using namespace moe::test::faults;

namespace {

template <class DispatcherT, class... ExtraTs>
auto layer_of(DispatcherT const& dispatcher, ExtraTs... extras)
{
  return moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                    moe::DropByWeight{moe::CeilCapacity{.factor = 0.8}},
                    dispatcher,
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = 1e-1},
                    extras...};
}

Batch<float> batch()
{
  return Batch<float>::make(layer_of(moe::BatchedDispatcher<>{}), sizes, tokens, 1);
}

moe::BatchedSchedule const batched;

template <class MakeLayer>
void fail_everywhere(std::string const& what,
                     MakeLayer const& layer,
                     std::vector<int> const& worlds = {2, 3, 4, 5, 6, 7, 8})
{
  auto const whole = batch();
  throw_everywhere(what, layer, whole, worlds);
  run_out_of_memory_everywhere(what, layer, whole, {2, 3, 8});
}

}  // namespace

TEST_CASE("packed rows, in one piece and in chunks")
{
  auto const in_chunks = [](int chunks) {
    return [=](auto const& comm, Host const&) {
      return layer_of(moe::AllToAllDispatcher(comm, {.chunks = chunks}));
    };
  };
  fail_everywhere("flat", in_chunks(1), {2, 5, 8});
  fail_everywhere("flat, in chunks", in_chunks(3));
}

TEST_CASE("a token once to each rank, over a narrow wire, in chunks")
{
  fail_everywhere("once per rank, bf16 wire", [](auto const& comm, Host const&) {
    return layer_of(moe::AllToAllDispatcher(comm,
                                            {.chunks = 2},
                                            batched,
                                            moe::FlatExchange{},
                                            moe::OncePerRank{},
                                            moe::BFloat16Wire{}));
  });
}

TEST_CASE("all tokens to all ranks")
{
  fail_everywhere("all-gather", [](auto const& comm, Host const&) {
    return layer_of(moe::AllToAllDispatcher(comm, {}, batched, moe::AllGatherExchange{}));
  });
}

TEST_CASE("in two levels, with the reproducible reduction")
{
  fail_everywhere("hierarchical, reproducible", [](auto const& comm, Host const&) {
    moe::HierarchicalExchange const exchange(comm, comm.size() % 2 == 0 ? 2 : comm.size());
    return layer_of(moe::AllToAllDispatcher(comm, {}, batched, exchange),
                    moe::ReproducibleReduction{.block = block});
  });
}
