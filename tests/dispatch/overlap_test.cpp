// Compile at -O1: many layers, little work in each.
// Ways for rows to travel that change no bit, or that say which: chunks, in which communication
// runs beside the experts, all-gather with reduce-scatter, and wires.
#include <doctest/doctest.h>

#include "support/rank_world.hpp"

using moe::BFloat16, moe::Host, moe::index_t, moe::ThreadCommunicator, moe::ThreadWorld;
using moe::test::run_rank, moe::test::same_bits;
using namespace moe::test::ranks;

namespace {

moe::DropByWeight<moe::CeilCapacity> drops()
{
  return moe::DropByWeight{moe::CeilCapacity{.factor = 0.6}};
}

}  // namespace

TEST_CASE("chunks: each expert is in one, in order, and the outer ones are small")
{
  for (index_t L = 0; L <= 40; ++L) {
    for (index_t chunks = 1; chunks <= 12; ++chunks) {
      index_t next = 0;
      for (index_t c = 0; c < chunks; ++c) {
        auto const some = moe::experts_of_chunk(L, chunks, c);
        CHECK(some.first == next);
        next += some.count;
        for (index_t e = some.first; e < next; ++e) {
          CHECK(moe::chunk_of_expert(L, chunks, e) == c);
        }
      }
      CHECK(next == L);
    }
  }
  auto const counts = [](index_t L, index_t chunks) {
    std::vector<index_t> n;
    for (index_t c = 0; c < chunks; ++c) {
      n.push_back(moe::experts_of_chunk(L, chunks, c).count);
    }
    return n;
  };
  CHECK(counts(8, 2) == std::vector<index_t>{4, 4});
  CHECK(counts(16, 3) == std::vector<index_t>{4, 8, 4});
  CHECK(counts(28, 6) == std::vector<index_t>{2, 4, 8, 8, 4, 2});
}

TEST_CASE("steps of chunks: each once, in order; then the work that no rank waits for")
{
  Host const exec({.threads = 1});
  for (int chunks = 1; chunks <= 6; ++chunks) {
    for (bool const pack_sends : {false, true}) {
      std::vector<std::vector<int>> done(6);  // step -> when each chunk's was
      int now        = 0;
      auto const say = [&](std::size_t step, int c) {
        CHECK(done[step].size() == static_cast<std::size_t>(c));
        done[step].push_back(now++);
      };
      auto const worked = moe::detail::Overlap<Host>(exec, chunks, pack_sends)
                              .run(moe::detail::ChunkSteps{[&](Host const&, int c) { say(0, c); },
                                                           [&](Host const&, int c) { say(1, c); },
                                                           [&](int c) { say(2, c); },
                                                           [&](Host const&, int c) { say(3, c); },
                                                           [&](Host const&, int c) { say(4, c); }});
      int const joined = now;
      REQUIRE(worked.size() == static_cast<std::size_t>(chunks == 1 ? 0 : chunks));
      moe::detail::when_worked(exec, worked, [&](Host const&, int c) { say(5, c); });
      for (std::size_t c = 0; c < static_cast<std::size_t>(chunks); ++c) {
        for (std::size_t step = 0; step < 5; ++step) {
          REQUIRE(done[step].size() == static_cast<std::size_t>(chunks));
          if (step > 0) { CHECK(done[step - 1][c] < done[step][c]); }
        }
      }
      CHECK(done[5].size() == worked.size());
      for (int const when : done[5]) {
        CHECK(when >= joined);
      }
    }
  }
}

TEST_CASE("any number of chunks: the bits of one rank")
{
  auto const whole = batch<float>(21);
  for (int const ranks : {2, 3, 4, 8}) {  // 6 experts: 3, 2, 1 or 2, 0 or 1 of them each
    for (int const chunks : {2, 3, 5}) {  // also more than experts
      CAPTURE(ranks);
      CAPTURE(chunks);
      Way<> const each{.chunks = chunks};
      Way<moe::FlatExchange, moe::OncePerRank> const once{.chunks = chunks};
      check_world<float>(moe::Dropless{}, whole, even_parts(ranks), moe::BatchedSchedule{}, each);
      check_world<float>(drops(), whole, odd_parts(ranks), moe::SerialSchedule{}, each);
      check_world<float>(moe::Dropless{}, whole, odd_parts(ranks), moe::BatchedSchedule{}, once);
      check_world<float>(drops(), whole, even_parts(ranks), moe::BatchedSchedule{}, once);
    }
  }
  check_world<double>(moe::Dropless{},
                      batch<double>(22),
                      even_parts(4),
                      moe::BatchedSchedule{},
                      Way<moe::FlatExchange, moe::OncePerRank>{.chunks = 2});
  check_world<BFloat16>(moe::Dropless{},
                        batch<BFloat16>(23),
                        odd_parts(3),
                        moe::BatchedSchedule{},
                        Way<>{.chunks = 2});
}

TEST_CASE_TEMPLATE("all-gather and reduce-scatter: sums over ranks, the rest exact",
                   T,
                   float,
                   double)
{
  auto const whole = batch<T>(25);
  Way<moe::AllGatherExchange> const way;
  for (int const ranks : {1, 2, 3, 4, 8}) {
    CAPTURE(ranks);
    for (auto const& parts : {even_parts(ranks), odd_parts(ranks)}) {
      bool const unsummed = ranks == 1;
      check_world<T>(moe::Dropless{}, whole, parts, moe::BatchedSchedule{}, way, unsummed);
      check_world<T>(drops(), whole, parts, moe::SerialSchedule{}, way, unsummed);
    }
  }
}

TEST_CASE("a wire as wide as the element type: the bits of one rank")
{
  using Float = Way<moe::FlatExchange, moe::OncePerRank, moe::FloatWire>;
  check_world<float>(
      moe::Dropless{}, batch<float>(27), odd_parts(3), moe::BatchedSchedule{}, Float{.chunks = 2});
  check_world<BFloat16>(
      drops(), batch<BFloat16>(28), even_parts(4), moe::SerialSchedule{}, Float{.chunks = 1});
  check_world<BFloat16>(moe::Dropless{},
                        batch<BFloat16>(29),
                        even_parts(2),
                        moe::BatchedSchedule{},
                        Way<moe::FlatExchange, moe::EachChoice, moe::BFloat16Wire>{});
}

TEST_CASE("a narrower wire: near one rank, and alike for any number of ranks, chunks and ways")
{
  auto const whole = batch<float>(30);
  auto const one   = run_rank<float>(layer_of(moe::Dropless{}, moe::BatchedDispatcher<>{}),
                                   own(),
                                   whole,
                                     {0, tokens},
                                     {0, sizes.experts});
  auto const check = [&]<class WireT>(WireT, double error) {
    moe::test::RankPass<float> first;
    for (int const ranks : {2, 3, 8}) {
      CAPTURE(ranks);
      Way<moe::FlatExchange, moe::EachChoice, WireT> const each{};
      Way<moe::FlatExchange, moe::OncePerRank, WireT> const once{.chunks = 2};
      auto const run = [&](auto const& way) {
        moe::test::RankPass<float> all;
        for (auto const& p : run_world<float>(
                 moe::Dropless{}, moe::BatchedSchedule{}, whole, odd_parts(ranks), way)) {
          all.y            = joined(all.y, p.y);
          all.dx           = joined(all.dx, p.dx);
          all.expert_grads = joined(all.expert_grads, p.expert_grads);
        }
        return all;
      };
      auto const a = run(each), b = run(once);
      if (first.y.empty()) { first = a; }
      for (auto const* r : {&a, &b}) {
        CHECK(same_bits(r->y, first.y));
        CHECK(same_bits(r->dx, first.dx));
        CHECK(same_bits(r->expert_grads, first.expert_grads));
      }
      check_near(a.y, one.y, error * error);
      check_near(a.dx, one.dx, error * error);
      check_near(a.expert_grads, one.expert_grads, error * error);
      CHECK(!same_bits(a.y, one.y));
    }
  };
  check(moe::BFloat16Wire{}, 0.01);
  check(moe::Float8Wire{}, 0.08);
}

TEST_CASE("what the ways refuse")
{
  auto const whole = batch<float>(26);
  auto const run   = [&](auto way) {
    (void)run_world<float>(moe::Dropless{}, moe::BatchedSchedule{}, whole, even_parts(2), way);
  };
  CHECK_THROWS_WITH_AS(run(Way<>{.chunks = 0}), doctest::Contains("chunks is 0"), moe::ValueError);
  CHECK_THROWS_WITH_AS(run(Way<moe::AllGatherExchange>{.chunks = 2}),
                       doctest::Contains("chunks is 2"),
                       moe::ShapeError);
  // Ranks that disagree learn it from each other.
  auto const disagree = [&] {
    ThreadWorld(2).run([&](ThreadCommunicator const& comm) {
      moe::AllToAllDispatcher const dispatcher(comm, {.chunks = 1 + comm.rank()});
      auto const parts = even_parts(2);
      (void)run_rank<float>(layer_of(moe::Dropless{}, dispatcher),
                            own(),
                            whole,
                            parts[static_cast<std::size_t>(comm.rank())],
                            dispatcher.experts_here(sizes.experts));
    });
  };
  CHECK_THROWS_WITH_AS(disagree(), doctest::Contains("chunks"), moe::CommunicationError);
}
