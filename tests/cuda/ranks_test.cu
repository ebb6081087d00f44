// A layer whose experts live at ranks that are threads with one GPU: the bits of one rank.
#include <doctest/doctest.h>

#include "support/cuda_rank_layer.hpp"

using moe::BFloat16, moe::Cuda, moe::index_t, moe::ThreadCommunicator, moe::ThreadWorld;
using moe::test::Batch, moe::test::same_bits;
using namespace moe::test::rank_layer;

namespace {

template <class T>
void check_near(std::vector<T> const& a, std::vector<T> const& b)
{
  double error = 0, norm = 0;
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    double const x = static_cast<float>(a[i]), y = static_cast<float>(b[i]);
    error += (x - y) * (x - y);
    norm += y * y;
  }
  CHECK(error <= (sizeof(T) == 2 ? 1e-5 : 1e-10) * norm);
}

// `unsummed`: rows come home one for each choice, so y has the bits of one rank.
template <class T, class CapacityT, class ExchangeT, class RowsT>
void check_ranks(
    CapacityT capacity, ExchangeT exchange, RowsT rows, int chunks = 1, bool unsummed = true)
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
      std::vector<Pass<T>> passes(static_cast<std::size_t>(ranks));
      ThreadWorld(ranks, {.deadline = std::chrono::seconds(60)})
          .run([&](ThreadCommunicator const& comm) {
            Cuda const own;
            moe::AllToAllDispatcher const dispatcher(
                comm, {.chunks = chunks}, moe::BatchedSchedule{}, exchange, rows);
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
      if (unsummed || ranks == 1) {
        CHECK(same_bits(all.y, one.y));
        CHECK(same_bits(all.evaluated, one.evaluated));
      } else {
        CHECK(same_bits(all.y, all.evaluated));
        check_near(all.y, one.y);
      }
      CHECK(same_bits(all.expert_grads, one.expert_grads));
      // The gate's part of dx is cuBLAS's, which may sum it in another order for other rows.
      check_near(all.dx, one.dx);
    }
  }
}

moe::FlatExchange const flat;

}  // namespace

TEST_CASE_TEMPLATE("dropless over ranks that share a GPU", T, float, BFloat16)
{
  check_ranks<T>(moe::Dropless{}, flat, moe::EachChoice{});
  check_ranks<T>(moe::Dropless{}, flat, moe::OncePerRank{});
}

TEST_CASE("in chunks, communication beside the experts")
{
  check_ranks<float>(moe::Dropless{}, flat, moe::EachChoice{}, 2);
  check_ranks<BFloat16>(moe::Dropless{}, flat, moe::OncePerRank{}, 3);
}

TEST_CASE("with a capacity that is counted over all ranks")
{
  check_ranks<float>(moe::DropByWeight{moe::CeilCapacity{.factor = 0.7}}, flat, moe::EachChoice{});
  check_ranks<float>(
      moe::DropByTokenPriority{moe::CeilCapacity{.factor = 0.7}}, flat, moe::OncePerRank{}, 2);
}

TEST_CASE("all-gather and reduce-scatter")
{
  check_ranks<float>(
      moe::Dropless{}, moe::AllGatherExchange{}, moe::EachChoice{}, 1, /*unsummed*/ false);
}

TEST_CASE("with slots that the experts of one rank of three share")
{
  moe::DropByWeight const policy{moe::CeilCapacity{.factor = 0.7}};
  check_ranks<float>(moe::RankCapacity{policy, 3}, moe::EachChoice{});
}

TEST_CASE("experts that choose among the tokens of all ranks")
{
  check_ranks<float>(moe::ExpertChoice{.factor = 1.5}, moe::EachChoice{});
}
