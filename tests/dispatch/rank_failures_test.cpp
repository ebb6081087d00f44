// Compile at -O1: many worlds, little work in each.
// A rank that fails anywhere in a training step over ranks: every rank ends, with that cause.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "support/rank_batch.hpp"
#include "support/rank_ends.hpp"
#include "support/tracking_resource.hpp"

using moe::FailingCommunicator, moe::Host, moe::index_t, moe::ThreadCommunicator, moe::ThreadWorld;
using moe::test::Batch, moe::test::GateFfnSizes, moe::test::RankEnd, moe::test::run_to_end,
    moe::test::WorldEnd;

namespace {

constexpr GateFfnSizes sizes{.hidden = 8, .experts = 5, .expert = {.ffn = 6}};
constexpr index_t tokens = 24;

// Longer than all of this takes: whoever ends before was not ended by it.
moe::ThreadWorldOptions const long_deadline{.deadline = std::chrono::seconds(120)};

template <class CommT>
auto layer_over(CommT const& comm)
{
  return moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                    moe::DropByWeight{moe::CeilCapacity{.factor = 0.8}},
                    moe::AllToAllDispatcher(comm),
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = 1e-1}};
}

// One evaluate, forward, backward and gradient sum of one rank.
template <class CommT>
void train_step(CommT const& comm, Host const& exec, Batch<float> const& whole)
{
  index_t const first = tokens * comm.rank() / comm.size();
  index_t const last  = tokens * (comm.rank() + 1) / comm.size();
  (void)moe::test::run_rank<float>(layer_over(comm),
                                   exec,
                                   whole,
                                   {first, last - first},
                                   moe::experts_of_rank(sizes.experts, comm.size(), comm.rank()));
}

Batch<float> batch()
{
  return Batch<float>::make(layer_over(moe::SelfCommunicator{}), sizes, tokens, 1);
}

// Everybody ended, because of `rank`, with the same words.
void check_ended(WorldEnd const& end, int rank)
{
  for (std::size_t r = 0; r < end.ranks.size(); ++r) {
    CAPTURE(r);
    CHECK(end.ranks[r].kind ==
          (static_cast<int>(r) == rank ? end.thrown.kind : RankEnd::communication));
    CHECK(end.ranks[r].kind != RankEnd::returned);
    if (static_cast<int>(r) != rank) { CHECK(end.ranks[r].rank == rank); }
  }
}

struct Points {
  std::vector<double> seconds;
  void tell(std::string const& what)
  {
    std::sort(seconds.begin(), seconds.end());
    auto const at = [&](double q) {
      return 1e3 * seconds[static_cast<std::size_t>(q * static_cast<double>(seconds.size() - 1))];
    };
    MESSAGE(what,
            ": ",
            seconds.size(),
            " points, time to error p50 ",
            at(0.5),
            " ms, p99 ",
            at(0.99),
            " ms");
  }
};

}  // namespace

TEST_CASE("each collective of a step fails on each rank")
{
  auto const whole = batch();
  Points points;
  for (int const ranks : {2, 3, 5, 8}) {
    CAPTURE(ranks);
    for (int const rank : {0, ranks / 2, ranks - 1}) {
      CAPTURE(rank);
      bool failed = true;
      for (std::uint64_t sequence = 1; failed; ++sequence) {
        CAPTURE(sequence);
        REQUIRE(sequence < 200);
        auto const end =
            run_to_end(ThreadWorld(ranks, long_deadline), [&](ThreadCommunicator const& comm) {
              auto const never = std::numeric_limits<std::uint64_t>::max();
              FailingCommunicator const failing(comm, comm.rank() == rank ? sequence : never);
              Host const exec({.threads = 1, .products = moe::Products::own});
              train_step(failing, exec, whole);
            });
        failed = end.thrown.kind != RankEnd::returned;
        if (!failed) {
          CHECK(sequence > 20);  // it went through more collectives than that
          break;
        }
        check_ended(end, rank);
        CHECK(end.thrown.rank == rank);
        CHECK(end.thrown.sequence == sequence);
        points.seconds.push_back(end.seconds);
      }
    }
  }
  points.tell("failing collectives");
}

TEST_CASE("each allocation of a step fails on one rank, and nothing leaks on any")
{
  auto const whole = batch();
  Points points;
  for (int const ranks : {2, 4}) {
    int const rank = ranks - 1;
    bool failed    = true;
    for (std::size_t k = 1; failed; ++k) {
      CAPTURE(k);
      REQUIRE(k < 2000);
      std::vector<moe::test::CountingResource> memory(static_cast<std::size_t>(ranks));
      std::vector<std::unique_ptr<moe::test::FailingResource>> failing;
      for (int r = 0; r < ranks; ++r) {
        failing.push_back(std::make_unique<moe::test::FailingResource>(
            r == rank ? k : 0, &memory[static_cast<std::size_t>(r)]));
      }
      auto const end =
          run_to_end(ThreadWorld(ranks, long_deadline), [&](ThreadCommunicator const& comm) {
            Host const exec({.threads  = 1,
                             .resource = failing[static_cast<std::size_t>(comm.rank())].get(),
                             .products = moe::Products::own});
            train_step(comm, exec, whole);
          });
      for (auto const& m : memory) {
        CHECK(m.blocks() == 0);
        CHECK(m.mistakes() == 0);
      }
      failed = end.thrown.kind != RankEnd::returned;
      if (failed) {
        check_ended(end, rank);
        CHECK(end.thrown.kind == RankEnd::other);
        CHECK(end.thrown.text.find("bytes") != std::string::npos);
        points.seconds.push_back(end.seconds);
      } else {
        CHECK(k > 100);
      }
    }
  }
  points.tell("failing allocations");
}
