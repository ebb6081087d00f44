// Compile at -O1: many layers, little to run.
// A memory plan of one rank is what that rank asks for, given the rows that arrive there.
#include <doctest/doctest.h>

#include <chrono>

#include <moe/expert_parallel.hpp>

#include "support/measured_memory.hpp"

using moe::BFloat16, moe::Id, moe::index_t, moe::Lifetime, moe::Products;
using moe::test::check_measured, moe::test::measure_memory, moe::test::MeasuredMemory;

namespace {

template <class CapacityT, class DispatcherT, class... ExtraTs>
auto layer_of(CapacityT capacity, DispatcherT dispatcher, ExtraTs... extras)
{
  return moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                    capacity,
                    dispatcher,
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = 1e-2},
                    extras...};
}
auto const layer_type = layer_of(moe::Dropless{}, moe::SerialDispatcher{});
using Sizes           = std::remove_const_t<decltype(layer_type)>::Sizes;

moe::MemoryPlanOptions own(int ranks, int rank)
{
  return {.space = {.threads = 1, .products = Products::own}, .ranks = ranks, .rank = rank};
}

// Rows that came to the experts of `rank`, by rank and expert.
std::vector<Id> arrived_at(std::vector<MeasuredMemory> const& ranks, int rank)
{
  auto const P    = static_cast<int>(ranks.size());
  auto const mine = moe::experts_of_rank(static_cast<index_t>(ranks[0].kept.size()), P, rank);
  std::vector<Id> arrived;
  for (auto const& from : ranks) {
    auto const first = from.kept.begin() + mine.first;
    arrived.insert(arrived.end(), first, first + mine.count);
  }
  return arrived;
}

// `make(communicator)` makes the dispatcher.
template <class T, class G, class CapacityT, class Make, class... ExtraTs>
void check_ranks(CapacityT capacity,
                 Make const& make,
                 Sizes const& sizes,
                 index_t tokens,
                 int ranks,
                 ExtraTs... extras)
{
  CAPTURE(ranks);
  std::vector<MeasuredMemory> measured(static_cast<std::size_t>(ranks));
  moe::ThreadWorld(ranks, {.deadline = std::chrono::seconds(60)})
      .run([&](moe::ThreadCommunicator const& comm) {
        measured[static_cast<std::size_t>(comm.rank())] = measure_memory<T, G>(
            layer_of(capacity, make(comm), extras...), sizes, tokens, own(0, 0));
      });
  auto const layer = layer_of(capacity, make(moe::SelfCommunicator{}), extras...);
  for (int r = 0; r < ranks; ++r) {
    CAPTURE(r);
    auto const& m = measured[static_cast<std::size_t>(r)];

    auto exact               = own(ranks, r);
    exact.sent_per_expert    = m.kept;
    exact.arrived_per_expert = arrived_at(measured, r);
    check_measured(moe::plan_memory<T, G>(layer, sizes, tokens, exact), m);

    auto const bound = moe::plan_memory<T, G>(layer, sizes, tokens, own(ranks, r));
    CHECK(bound.saved >= m.saved);
    CHECK(bound.forward >= m.forward);
    CHECK(bound.backward >= m.backward);
    CHECK(bound.evaluate >= m.evaluate);

    if (make.chunks > 1) { continue; }  // whose bytes depend on the experts of each row
    index_t sent = 0;
    for (Id const n : m.kept) {
      sent += n;
    }
    auto by_number = own(ranks, r);
    by_number.rows = m.rows;
    by_number.sent = sent;
    check_measured(moe::plan_memory<T, G>(layer, sizes, tokens, by_number), m);
  }
}

constexpr Sizes sizes{.hidden = 24, .experts = 6, .expert = {.ffn = 17}};

template <class ScheduleT = moe::BatchedSchedule,
          class WireT     = moe::ElementWire,
          class ExchangeT = moe::FlatExchange>
struct AllToAll {
  int chunks = 1;
  template <class CommT>
  auto operator()(CommT const& comm) const
  {
    return moe::AllToAllDispatcher{
        comm, {.chunks = chunks}, ScheduleT{}, ExchangeT{}, moe::EachChoice{}, WireT{}};
  }
};

}  // namespace

TEST_CASE("a plan of a rank is what it asks for, given the rows that arrive")
{
  for (int const ranks : {1, 2, 3, 4}) {
    check_ranks<float, float>(moe::Dropless{}, AllToAll<>{}, sizes, 53, ranks);
    check_ranks<BFloat16, float>(moe::Dropless{}, AllToAll<>{}, sizes, 29, ranks);
  }
  check_ranks<float, float>(moe::Dropless{}, AllToAll<>{}, sizes, 0, 2);
  check_ranks<float, float>(moe::Dropless{}, AllToAll<>{}, sizes, 1, 8);  // ranks without experts
}

TEST_CASE("a plan of a rank, batches in chunks: given where the rows go")
{
  for (int const ranks : {2, 3}) {
    for (int const chunks : {2, 3, 5}) {
      CAPTURE(chunks);
      check_ranks<float, float>(moe::Dropless{}, AllToAll<>{chunks}, sizes, 53, ranks);
    }
  }
}

TEST_CASE("a plan of a rank: rows that travel narrower, drops over all ranks, one expert at a time")
{
  using Narrow = AllToAll<moe::SerialSchedule, moe::CastWire<BFloat16>>;
  moe::DropByWeight const drops{moe::CeilCapacity{.factor = 0.7}};
  check_ranks<float, float>(drops, Narrow{1}, sizes, 53, 3);
  check_ranks<float, float>(drops, Narrow{2}, sizes, 53, 3);
}

TEST_CASE("a plan of a rank: tokens that are gathered at every rank")
{
  using Gathered = AllToAll<moe::BatchedSchedule, moe::ElementWire, moe::AllGatherExchange>;
  check_ranks<float, float>(moe::Dropless{}, Gathered{}, sizes, 53, 3);
  check_ranks<BFloat16, float>(moe::Dropless{}, Gathered{}, sizes, 17, 2);
}

TEST_CASE("a plan of a rank: sums of the gradients by block, over all ranks")
{
  check_ranks<float, float>(
      moe::Dropless{}, AllToAll<>{}, sizes, 48, 3, moe::ReproducibleReduction{.block = 16});
}

TEST_CASE("saved at a rank: what one rank saves, the rows that arrived, and where they came from")
{
  index_t const T = 100, D = 24, E = 6, F = 17, A = 2 * T, R = 333, P = 2, L = E / P;
  auto const size  = [](index_t n, index_t each) { return static_cast<std::size_t>(n * each); };
  auto const layer = layer_of(moe::Dropless{}, AllToAll<>{}(moe::SelfCommunicator{}));
  auto options     = own(P, 1);
  options.rows     = R;
  auto const plan  = moe::plan_memory<BFloat16, float>(
      layer, {.hidden = D, .experts = E, .expert = {.ffn = F}}, T, options);
  CHECK(plan.bytes(Lifetime::saved, "pre-activations") == size(R * 2 * F, 2));
  CHECK(plan.bytes(Lifetime::saved, "rows that arrived") == size(R * D, 2));
  CHECK(plan.bytes(Lifetime::saved, "weights of rows") == size(R, 4));
  CHECK(plan.bytes(Lifetime::saved, "exchange plan") == size(2 * R + L + 1, 4));
  auto const own_tokens = size(T * E, 4) + size(A, 8) + size(4 * A + 2 * E + (E + 1) + 1, 4) +
                          size(E + 2, 4) + size(3, 4);
  CHECK(plan.saved == own_tokens + size(R * 2 * F, 2) + size(R * D, 2) + size(3 * R + L + 1, 4));
  CHECK(plan.bytes(Lifetime::params, "w_in") < size(E * 2 * F * D, 2));  // those that are here
  CHECK(plan.bytes(Lifetime::backward, "dy that arrived") == size(R * D, 2));
}

TEST_CASE("a plan of a rank refuses what cannot be")
{
  auto const layer   = layer_of(moe::Dropless{}, AllToAll<>{}(moe::SelfCommunicator{}));
  auto const refuses = [&](moe::MemoryPlanOptions const& options) {
    CHECK_THROWS_AS((void)moe::plan_memory<float>(layer, sizes, 10, options), moe::Error);
  };
  refuses(own(2, 2));
  auto too_many = own(2, 0);
  too_many.sent = 21;
  refuses(too_many);
  auto too_short            = own(2, 0);
  too_short.sent_per_expert = {1, 2};
  refuses(too_short);
  auto too_long               = own(2, 0);
  too_long.arrived_per_expert = std::vector<Id>(7, 1);
  refuses(too_long);
}
