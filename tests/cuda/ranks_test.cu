// A layer whose experts live at ranks that are threads: the bits of one rank.
#include <doctest/doctest.h>

#include <memory>

#include "support/cuda_rank_layer.hpp"
#include "support/cuda_resource.hpp"
#include "support/rank_gpus.hpp"

using moe::BFloat16, moe::Cuda, moe::index_t, moe::Products, moe::ThreadCommunicator,
    moe::ThreadWorld;
using moe::test::Batch, moe::test::same_bits;
using namespace moe::test::rank_layer;

namespace {

// How rows travel.
template <class ExchangeT = moe::FlatExchange, class RowsT = moe::EachChoice>
struct Way {
  int chunks = 1;
  ExchangeT exchange{};
  RowsT rows{};
};
using Each = Way<>;
using Once = Way<moe::FlatExchange, moe::OncePerRank>;

// Ranks whose parts of the batch begin at first (P + 1), what make(communicator) gives being their
// spaces -> their results, one after the other.
template <class T, class CapacityT, class WayT, class MakeT>
Pass<T> run_ranks(Batch<T> const& whole,
                  CapacityT capacity,
                  WayT const& way,
                  std::vector<index_t> const& first,
                  MakeT const& make)
{
  auto const ranks = static_cast<int>(first.size()) - 1;
  std::vector<Pass<T>> passes(static_cast<std::size_t>(ranks));
  ThreadWorld(ranks, {.deadline = std::chrono::seconds(60)})
      .run([&](ThreadCommunicator const& comm) {
        Cuda const own = make(comm);
        moe::AllToAllDispatcher const dispatcher(
            comm, {.chunks = way.chunks}, moe::BatchedSchedule{}, way.exchange, way.rows);
        auto const r = static_cast<std::size_t>(comm.rank());
        passes[r]    = run_rank<T>(layer_of(capacity, dispatcher),
                                own,
                                whole,
                                first[r],
                                first[r + 1] - first[r],
                                dispatcher.experts_here(sizes.experts));
      });
  Pass<T> all;
  for (auto const& p : passes) {
    append(all.y, p.y);
    append(all.evaluated, p.evaluated);
    append(all.dx, p.dx);
    append(all.expert_grads, p.expert_grads);
  }
  return all;
}

// `unsummed`: rows come home one for each choice, so y has the bits of one rank. So has dx, where
// the gate's part of it is a product of the library's: cuBLAS may sum it in another order for other
// rows.
template <class T, class CapacityT, class WayT>
void check_ranks(CapacityT capacity,
                 WayT const& way,
                 bool unsummed     = true,
                 Products products = Products::own)
{
  auto const whole =
      Batch<T>::make(layer_of(capacity, moe::BatchedDispatcher<>{}), sizes, tokens, 3);
  Cuda const exec(nullptr, {.products = products});
  auto const one = run_rank<T>(layer_of(capacity, moe::BatchedDispatcher<moe::BatchedSchedule>{}),
                               exec,
                               whole,
                               0,
                               tokens,
                               {0, sizes.experts});
  for (int const ranks : {1, 2, 3, 4}) {
    for (bool const odd : {false, true}) {
      CAPTURE(ranks);
      CAPTURE(odd);
      std::vector<index_t> first;
      for (int r = 0; r <= ranks; ++r) {
        first.push_back(r == ranks ? tokens : odd ? r / 2 * 5 : tokens * r / ranks);
      }
      auto const all =
          run_ranks<T>(whole, capacity, way, first, [&](ThreadCommunicator const& comm) {
            return moe::test::cuda_of(comm, {.products = products});
          });
      if (unsummed || ranks == 1) {
        CHECK(same_bits(all.y, one.y));
        CHECK(same_bits(all.evaluated, one.evaluated));
      } else {
        CHECK(same_bits(all.y, all.evaluated));
        CHECK(near(all.y, one.y));
      }
      CHECK(same_bits(all.expert_grads, one.expert_grads));
      if (products == Products::own && unsummed) {
        CHECK(same_bits(all.dx, one.dx));
      } else {
        CHECK(near(all.dx, one.dx));
      }
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("dropless over ranks", T, float, BFloat16)
{
  check_ranks<T>(moe::Dropless{}, Each{});
  check_ranks<T>(moe::Dropless{}, Once{});
}

TEST_CASE_TEMPLATE("with the products that are the default", T, float, BFloat16)
{
  check_ranks<T>(moe::Dropless{}, Each{}, /*unsummed*/ true, Products::automatic);
}

TEST_CASE("in chunks, communication beside the experts")
{
  check_ranks<float>(moe::Dropless{}, Each{.chunks = 2});
  check_ranks<BFloat16>(moe::Dropless{}, Once{.chunks = 3});
}

TEST_CASE("with a capacity that is counted over all ranks")
{
  check_ranks<float>(moe::DropByWeight{moe::CeilCapacity{.factor = 0.7}}, Each{});
  check_ranks<float>(moe::DropByTokenPriority{moe::CeilCapacity{.factor = 0.7}}, Once{.chunks = 2});
}

TEST_CASE("all-gather and reduce-scatter")
{
  check_ranks<float>(moe::Dropless{}, Way<moe::AllGatherExchange>{}, /*unsummed*/ false);
}

TEST_CASE("with slots that the experts of one rank of three share")
{
  moe::DropByWeight const policy{moe::CeilCapacity{.factor = 0.7}};
  check_ranks<float>(moe::RankCapacity{policy, 3}, Each{});
}

TEST_CASE("experts that choose among the tokens of all ranks")
{
  check_ranks<float>(moe::ExpertChoice{.factor = 1.5}, Each{});
}

namespace {

// Each rank's memory holds `fill` before anybody writes there; what its GPU is given, and what
// travels, is all from there.
template <class T, class CapacityT, class WayT>
Pass<T> run_filled(unsigned char fill, CapacityT capacity, WayT const& way)
{
  std::vector<index_t> const first{0, 0, 40, tokens};  // none, and unequal ones
  auto const whole =
      Batch<T>::make(layer_of(capacity, moe::BatchedDispatcher<>{}), sizes, tokens, 3);
  std::vector<std::unique_ptr<moe::test::FillingPool>> pools;  // outlive the communicators
  for (std::size_t r = 0; r + 1 < first.size(); ++r) {
    int const ranks = static_cast<int>(first.size()) - 1;
    pools.push_back(std::make_unique<moe::test::FillingPool>(
        fill, moe::test::gpu_of(static_cast<int>(r), ranks)));
  }
  return run_ranks<T>(whole, capacity, way, first, [&](ThreadCommunicator const& comm) {
    return moe::test::cuda_of(comm,
                              {.resource = pools[static_cast<std::size_t>(comm.rank())].get(),
                               .products = Products::own});
  });
}

template <class T, class CapacityT, class WayT>
void check_reads_what_was_written(CapacityT capacity, WayT const& way)
{
  auto const zeros = run_filled<T>(0x00, capacity, way), nans = run_filled<T>(0xff, capacity, way);
  CHECK(zeros.y.size() == static_cast<std::size_t>(tokens * sizes.hidden));
  CHECK(same_bits(zeros.y, nans.y));
  CHECK(same_bits(zeros.evaluated, nans.evaluated));
  CHECK(same_bits(zeros.dx, nans.dx));
  CHECK(same_bits(zeros.expert_grads, nans.expert_grads));
}

}  // namespace

TEST_CASE("ranks read no memory that nobody wrote: zeros or NaNs there, the bits are the same")
{
  check_reads_what_was_written<float>(moe::Dropless{}, Each{});
  check_reads_what_was_written<BFloat16>(moe::Dropless{}, Once{.chunks = 2});
  check_reads_what_was_written<float>(moe::DropByWeight{moe::CeilCapacity{.factor = 0.7}}, Each{});
}
