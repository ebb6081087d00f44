#pragma once
// A layer over ranks that are threads, on parts of one batch, beside one rank that has all of it.
#include <doctest/doctest.h>

#include "support/rank_batch.hpp"

namespace moe::test::ranks {

inline constexpr GateFfnSizes sizes{.hidden = 24, .experts = 6, .expert = {.ffn = 17}};
inline constexpr index_t tokens = 53;

template <class CapacityT, class DispatcherT>
auto layer_of(CapacityT capacity, DispatcherT dispatcher)
{
  return moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                    capacity,
                    dispatcher,
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = 1e-1},
                    moe::RouterZLoss{.coeff = 1e-1}};
}

inline Host own()
{
  return Host({.threads = 1, .products = Products::own});
}

// Even parts, or parts of which some are empty and one is large.
inline std::vector<TokenRange> even_parts(int ranks)
{
  std::vector<TokenRange> parts;
  for (int r = 0; r < ranks; ++r) {
    parts.push_back({tokens * r / ranks, tokens * (r + 1) / ranks - tokens * r / ranks});
  }
  return parts;
}
inline std::vector<TokenRange> odd_parts(int ranks)
{
  std::vector<TokenRange> parts;
  index_t at = 0;
  for (int r = 0; r < ranks; ++r) {
    index_t const n = r == ranks - 1 ? tokens - at : r % 2 == 0 ? 0 : 3;
    parts.push_back({at, n});
    at += n;
  }
  return parts;
}

// Of each rank's own communicator: an exchange in two levels, hosts of so many ranks.
struct TwoLevels {
  int ranks_per_host = 1;
  auto operator()(ThreadCommunicator const& comm) const
  {
    return moe::HierarchicalExchange(comm, ranks_per_host);
  }
};

// How rows travel, beside the schedule. `exchange` may be what makes one for a communicator.
template <class ExchangeT = moe::FlatExchange,
          class RowsT     = moe::EachChoice,
          class WireT     = moe::ElementWire>
struct Way {
  int chunks = 1;
  ExchangeT exchange{};
  RowsT rows{};
  WireT wire{};
};

template <class T, class CapacityT, class ScheduleT, class WayT = Way<>>
std::vector<RankPass<T>> run_world(CapacityT capacity,
                                   ScheduleT schedule,
                                   Batch<T> const& whole,
                                   std::vector<TokenRange> const& parts,
                                   WayT const& way = {})
{
  int const P = static_cast<int>(parts.size());
  std::vector<RankPass<T>> passes(parts.size());
  ThreadWorld(P, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& comm) {
    auto const exchange = [&] {
      if constexpr (requires { way.exchange(comm); }) {
        return way.exchange(comm);
      } else {
        return way.exchange;
      }
    }();
    moe::AllToAllDispatcher const dispatcher(
        comm, {.chunks = way.chunks}, schedule, exchange, way.rows, way.wire);
    auto const layer = layer_of(capacity, dispatcher);
    auto const r     = static_cast<std::size_t>(comm.rank());
    passes[r] =
        run_rank<T>(layer, own(), whole, parts[r], dispatcher.experts_here(whole.sizes.experts));
  });
  return passes;
}

template <class V>
V joined(V a, V const& b)
{
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline void check_near(auto const& a, auto const& b, double squared = 1e-10)
{
  REQUIRE(a.size() == b.size());
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
    norm += double(b[i]) * double(b[i]);
  }
  CHECK(norm > 0);
  CHECK(error <= squared * norm);
}

// `unsummed`: rows come home one for each choice, so y and dx have the bits of one rank.
template <class T, class CapacityT, class ScheduleT = moe::BatchedSchedule, class WayT = Way<>>
void check_world(CapacityT capacity,
                 Batch<T> const& whole,
                 std::vector<TokenRange> const& parts,
                 ScheduleT schedule = {},
                 WayT const& way    = {},
                 bool unsummed      = true)
{
  // The compact layout, as rows arrive in.
  auto const reference_layer = layer_of(capacity, moe::BatchedDispatcher<moe::BatchedSchedule>{});
  auto const one =
      run_rank<T>(reference_layer, own(), whole, {0, whole.tokens}, {0, whole.sizes.experts});
  auto const passes = run_world<T>(capacity, schedule, whole, parts, way);

  RankPass<T> all;
  std::vector<moe::Id> dropped;
  for (std::size_t r = 0; r < passes.size(); ++r) {
    auto const& p    = passes[r];
    all.y            = joined(all.y, p.y);
    all.evaluated    = joined(all.evaluated, p.evaluated);
    all.dx           = joined(all.dx, p.dx);
    all.expert_grads = joined(all.expert_grads, p.expert_grads);
    for (moe::Id const a : p.loads.dropped) {
      dropped.push_back(static_cast<moe::Id>(a + parts[r].first * 2));
    }
    CHECK(p.loads.tokens_per_expert == one.loads.tokens_per_expert);
    CHECK(same_bits(p.gate_grads, passes[0].gate_grads));
    CHECK(same_bits(p.losses, passes[0].losses));
  }
  if (unsummed) {
    CHECK(same_bits(all.y, one.y));
    CHECK(same_bits(all.evaluated, one.evaluated));
    CHECK(same_bits(all.dx, one.dx));
  } else {
    CHECK(same_bits(all.evaluated, all.y));
    check_near(all.y, one.y);
    check_near(all.dx, one.dx);
  }
  CHECK(same_bits(all.expert_grads, one.expert_grads));
  CHECK(dropped == one.loads.dropped);
  // Sums over tokens are taken rank by rank: close, and the same again.
  check_near(passes[0].gate_grads, one.gate_grads);
  check_near(passes[0].losses, one.losses);
  CHECK(passes == run_world<T>(capacity, schedule, whole, parts, way));
}

template <class T>
Batch<T> batch(unsigned seed)
{
  return Batch<T>::make(layer_of(moe::Dropless{}, moe::SerialDispatcher{}), sizes, tokens, seed);
}

}  // namespace moe::test::ranks
