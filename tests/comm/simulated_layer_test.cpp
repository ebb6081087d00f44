// Compile at -O1: layers, little work in each.
// One rank's part of a whole layer in worlds of 8 to 512 ranks that exist only in the cost model.
#include <moe/comm/simulated_communicator.hpp>

#include <cmath>

#include <doctest/doctest.h>

#include "support/rank_batch.hpp"

using namespace moe;
using moe::test::Batch, moe::test::GateFfnSizes, moe::test::run_rank, moe::test::TokenRange;

namespace {

template <class DispatcherT>
auto layer_of(DispatcherT const& dispatcher)
{
  return Layer{SoftmaxTopK<2, renormalized>{},
               Dropless{},
               dispatcher,
               Ffn<SwiGlu>{},
               SwitchLoss{.coeff = 1e-1}};
}

}  // namespace

TEST_CASE("a layer's messages: as many collectives in every world, each to all other ranks")
{
  Cluster const cluster{
      .in_host = {5e-6, 300e9}, .across_hosts = {10e-6, 50e9}, .ranks_per_host = 8};
  GateFfnSizes const sizes{.hidden = 24, .experts = 512, .expert = {.ffn = 5}};
  constexpr index_t tokens  = 53;
  auto const whole          = Batch<float>::make(layer_of(SerialDispatcher{}), sizes, tokens, 7);
  std::uint64_t collectives = 0, messages_to_each = 0;
  double seconds = 0;
  for (int P : {8, 64, 512}) {
    CAPTURE(P);
    SimulatedCommunicator const comm(cluster, P, 3);
    auto const pass  = run_rank(layer_of(AllToAllDispatcher<SimulatedCommunicator>{comm}),
                               Host({.threads = 1, .products = Products::own}),
                               whole,
                               TokenRange{0, tokens},
                               experts_of_rank(sizes.experts, P, 3));
    bool all_numbers = true;
    for (auto const* values : {&pass.y, &pass.evaluated, &pass.dx}) {
      CHECK(values->size() == static_cast<std::size_t>(tokens * sizes.hidden));
      for (float const v : *values) {
        all_numbers = all_numbers && std::isfinite(v);
      }
    }
    CHECK(all_numbers);

    auto const seen   = comm.traffic();
    auto const others = static_cast<std::uint64_t>(P - 1);
    CHECK(seen.in_host_messages % 7 == 0);
    CHECK((seen.in_host_messages + seen.across_hosts_messages) % others == 0);
    auto const to_each = (seen.in_host_messages + seen.across_hosts_messages) / others;
    CHECK(to_each >= seen.collectives);  // a sum takes two messages
    CHECK((seen.across_hosts_bytes > 0) == (P > 8));
    CHECK(seen.seconds > seconds);
    if (collectives > 0) {
      CHECK(seen.collectives == collectives);
      CHECK(to_each == messages_to_each);
    }
    collectives      = seen.collectives;
    messages_to_each = to_each;
    seconds          = seen.seconds;
  }
}
