// A layer whose experts live at ranks that are threads with one GPU: the bits of one rank.
#include <doctest/doctest.h>

#include <memory>

#include "support/cuda_rank_layer.hpp"
#include "support/cuda_resource.hpp"

using moe::BFloat16, moe::Cuda, moe::index_t, moe::ThreadCommunicator, moe::ThreadWorld;
using moe::test::Batch, moe::test::same_bits;
using namespace moe::test::rank_layer;

namespace {

// Ranks whose parts of the batch begin at first (P + 1), what make(rank) gives being their spaces
// -> their results, one after the other.
template <class T, class CapacityT, class RowsT, class MakeT>
Pass<T> run_ranks(Batch<T> const& whole,
                  CapacityT capacity,
                  RowsT rows,
                  std::vector<index_t> const& first,
                  MakeT const& make)
{
  auto const ranks = static_cast<int>(first.size()) - 1;
  std::vector<Pass<T>> passes(static_cast<std::size_t>(ranks));
  ThreadWorld(ranks, {.deadline = std::chrono::seconds(60)})
      .run([&](ThreadCommunicator const& comm) {
        Cuda const own = make(comm.rank());
        moe::AllToAllDispatcher const dispatcher(
            comm, {}, moe::BatchedSchedule{}, moe::FlatExchange{}, rows);
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

template <class T, class CapacityT, class RowsT>
void check_ranks(CapacityT capacity, RowsT rows)
{
  auto const whole =
      Batch<T>::make(layer_of(capacity, moe::BatchedDispatcher<>{}), sizes, tokens, 3);
  Cuda const exec;
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
      auto const all = run_ranks<T>(whole, capacity, rows, first, [](int) { return Cuda(); });
      CHECK(same_bits(all.y, one.y));
      CHECK(same_bits(all.evaluated, one.evaluated));
      CHECK(same_bits(all.expert_grads, one.expert_grads));
      // The gate's part of dx is cuBLAS's, which may sum it in another order for other rows.
      double error = 0, norm = 0;
      REQUIRE(all.dx.size() == one.dx.size());
      for (std::size_t i = 0; i < all.dx.size(); ++i) {
        double const a = static_cast<float>(all.dx[i]), b = static_cast<float>(one.dx[i]);
        error += (a - b) * (a - b);
        norm += b * b;
      }
      CHECK(error <= (sizeof(T) == 2 ? 1e-5 : 1e-10) * norm);
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("dropless over ranks that share a GPU", T, float, BFloat16)
{
  check_ranks<T>(moe::Dropless{}, moe::EachChoice{});
  check_ranks<T>(moe::Dropless{}, moe::OncePerRank{});
}

TEST_CASE("with a capacity that is counted over all ranks")
{
  check_ranks<float>(moe::DropByWeight{moe::CeilCapacity{.factor = 0.7}}, moe::EachChoice{});
  check_ranks<float>(moe::DropByTokenPriority{moe::CeilCapacity{.factor = 0.7}},
                     moe::OncePerRank{});
}

namespace {

// Each rank's memory holds `fill` before anybody writes there; what its GPU is given, and what
// travels, is all from there.
template <class T, class CapacityT, class RowsT>
Pass<T> run_filled(unsigned char fill, CapacityT capacity, RowsT rows)
{
  std::vector<index_t> const first{0, 0, 40, tokens};  // none, and unequal ones
  auto const whole =
      Batch<T>::make(layer_of(capacity, moe::BatchedDispatcher<>{}), sizes, tokens, 3);
  std::vector<std::unique_ptr<moe::test::FillingPool>> pools;  // outlive the communicators
  for (std::size_t r = 0; r + 1 < first.size(); ++r) {
    pools.push_back(std::make_unique<moe::test::FillingPool>(fill));
  }
  return run_ranks<T>(whole, capacity, rows, first, [&](int rank) {
    return Cuda(
        nullptr,
        {.resource = pools[static_cast<std::size_t>(rank)].get(), .products = moe::Products::own});
  });
}

template <class T, class CapacityT, class RowsT>
void check_reads_what_was_written(CapacityT capacity, RowsT rows)
{
  auto const zeros = run_filled<T>(0x00, capacity, rows),
             nans  = run_filled<T>(0xff, capacity, rows);
  CHECK(zeros.y.size() == static_cast<std::size_t>(tokens * sizes.hidden));
  CHECK(same_bits(zeros.y, nans.y));
  CHECK(same_bits(zeros.evaluated, nans.evaluated));
  CHECK(same_bits(zeros.dx, nans.dx));
  CHECK(same_bits(zeros.expert_grads, nans.expert_grads));
}

}  // namespace

TEST_CASE("ranks read no memory that nobody wrote: zeros or NaNs there, the bits are the same")
{
  check_reads_what_was_written<float>(moe::Dropless{}, moe::EachChoice{});
  check_reads_what_was_written<BFloat16>(moe::Dropless{}, moe::OncePerRank{});
  check_reads_what_was_written<float>(moe::DropByWeight{moe::CeilCapacity{.factor = 0.7}},
                                      moe::EachChoice{});
}
