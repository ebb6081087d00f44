// Compile at -O1: many layers, little work in each.
// Experts over ranks that are threads: what every rank gives is, bit for bit, what one rank with
// all tokens and all experts gives.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory_resource>
#include <string_view>

#include "support/rank_world.hpp"

using moe::BFloat16, moe::Host, moe::index_t, moe::ThreadCommunicator, moe::ThreadWorld;
using moe::test::Batch, moe::test::RankPass, moe::test::run_rank, moe::test::same_bits;
using namespace moe::test::ranks;

TEST_CASE_TEMPLATE(
    "dropless: the bits of one rank, for any number of them", T, float, double, BFloat16)
{
  auto const whole = batch<T>(1);
  for (int const ranks : {1, 2, 3, 4, 8}) {  // 6 experts: uneven parts, and ranks without any
    CAPTURE(ranks);
    check_world<T>(moe::Dropless{}, whole, even_parts(ranks));
    check_world<T>(moe::Dropless{}, whole, odd_parts(ranks));
  }
}

TEST_CASE("either schedule, and masked tokens")
{
  auto whole = batch<float>(2);
  whole.mask.assign(static_cast<std::size_t>(tokens), 1);
  for (std::size_t t = 0; t < whole.mask.size(); t += 3) {
    whole.mask[t] = 0;
  }
  for (int const ranks : {2, 3}) {
    CAPTURE(ranks);
    check_world<float>(moe::Dropless{}, whole, even_parts(ranks), moe::SerialSchedule{});
    check_world<float>(moe::Dropless{}, whole, odd_parts(ranks));
  }
}

TEST_CASE("a capacity counted over all ranks drops what one rank with all tokens drops")
{
  auto const whole = batch<float>(3);
  moe::CeilCapacity const rule{.factor = 0.6};
  auto const one = run_rank<float>(layer_of(moe::DropByPosition{rule}, moe::SerialDispatcher{}),
                                   own(),
                                   whole,
                                   {0, tokens},
                                   {0, sizes.experts});
  CHECK(one.loads.dropped.size() > 10);
  for (int const ranks : {1, 2, 3, 4, 8}) {
    CAPTURE(ranks);
    check_world<float>(moe::DropByPosition{rule}, whole, even_parts(ranks));
    check_world<float>(moe::DropByWeight{rule}, whole, odd_parts(ranks));
    check_world<float>(moe::DropByTokenPriority{rule}, whole, even_parts(ranks));
    check_world<float>(moe::DropByTokenPriority{rule}, whole, odd_parts(ranks));
  }
}

TEST_CASE("a token's row sent once to each rank: the bits of one rank")
{
  auto const whole = batch<float>(9);
  Way<moe::FlatExchange, moe::OncePerRank> const once;
  for (int const ranks : {2, 3, 8}) {
    CAPTURE(ranks);
    for (auto const& parts : {even_parts(ranks), odd_parts(ranks)}) {
      check_world<float>(moe::Dropless{}, whole, parts, moe::BatchedSchedule{}, once);
      check_world<float>(moe::DropByWeight{moe::CeilCapacity{.factor = 0.6}},
                         whole,
                         parts,
                         moe::SerialSchedule{},
                         once);
    }
  }
}

namespace {

// Memory in which every byte is 0xff at first.
class FilledResource final : public std::pmr::memory_resource {
  void* do_allocate(std::size_t bytes, std::size_t alignment) override
  {
    return std::memset(std::pmr::new_delete_resource()->allocate(bytes, alignment), 0xff, bytes);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override
  {
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override
  {
    return this == &other;
  }
};

}  // namespace

TEST_CASE("rows of each expert are told whatever memory held, also where there are no experts")
{
  constexpr index_t E = 3;
  for (int const ranks : {1, 2, 5}) {
    CAPTURE(ranks);
    auto const P = static_cast<std::size_t>(ranks);
    std::vector<std::vector<moe::Id>> offsets(P), expected(P);
    ThreadWorld(ranks).run([&](ThreadCommunicator const& comm) {
      FilledResource filled;
      Host const exec{{.threads = 1, .resource = &filled}};
      moe::RoutingPlan<Host> plan(exec, moe::SlotLayout::compact, E, 0, 0);
      for (moe::Id e = 0; e < E; ++e) {  // rank r sends e + r rows to expert e
        plan.kept_per_expert.view()(e) = e + comm.rank();
      }
      auto const exchange = moe::make_exchange_plan(exec, comm, plan, 1);
      auto const r        = static_cast<std::size_t>(comm.rank());
      auto const at       = exchange.offsets.const_view();
      offsets[r].assign(at.data_handle(), at.data_handle() + at.size());
      auto const here = moe::experts_of_rank(E, ranks, comm.rank());
      expected[r].push_back(0);
      for (index_t e = here.first; e < here.first + here.count; ++e) {
        auto const rows = ranks * static_cast<moe::Id>(e) + ranks * (ranks - 1) / 2;
        expected[r].push_back(expected[r].back() + rows);
      }
    });
    CHECK(offsets == expected);
    auto const without = std::count(offsets.begin(), offsets.end(), std::vector<moe::Id>{0});
    CHECK(without == (ranks > E ? ranks - E : 0));
  }
}

TEST_CASE("what travels: rows of all choices, or of each token once to a rank")
{
  auto const whole = batch<float>(10);
  auto const sent  = [&](auto rows) {  // by rank 0 of two, forward
    std::vector<std::size_t> bytes(2);
    ThreadWorld(2).run([&](ThreadCommunicator const& comm) {
      moe::RecordingCommunicator const recording(comm);
      moe::AllToAllDispatcher const dispatcher(
          recording, {}, moe::BatchedSchedule{}, moe::FlatExchange{}, rows);
      auto const parts = even_parts(2);
      auto const r     = static_cast<std::size_t>(comm.rank());
      (void)run_rank<float>(layer_of(moe::Dropless{}, dispatcher),
                            own(),
                            whole,
                            parts[r],
                            dispatcher.experts_here(sizes.experts));
      for (auto const& call : recording.calls()) {
        if (std::string_view(call.operation).ends_with("all_to_all_v")) { bytes[r] += call.bytes; }
      }
    });
    return bytes[0] + bytes[1];
  };
  // Of 53 tokens with two of six experts each, about 53 x 2 / 5 have both at one of two ranks; x
  // (twice: evaluate, forward) and dy are three of six buffers of rows.
  auto const each = sent(moe::EachChoice{}), once = sent(moe::OncePerRank{});
  CHECK(each > 6 * 2 * tokens * sizes.hidden * static_cast<index_t>(sizeof(float)));
  CHECK(static_cast<double>(once) < 0.95 * static_cast<double>(each));
  CHECK(static_cast<double>(once) > 0.6 * static_cast<double>(each));
}

TEST_CASE("in two levels: the bits of one rank, for hosts of any size")
{
  using EachTwo    = Way<TwoLevels, moe::EachChoice>;
  using OnceTwo    = Way<TwoLevels, moe::OncePerRank>;
  auto const whole = batch<float>(8);
  for (auto const& [ranks, per_host] : std::vector<std::pair<int, int>>{
           {1, 1}, {2, 1}, {2, 2}, {4, 2}, {6, 3}, {6, 2}, {8, 4}, {8, 2}, {8, 8}}) {
    CAPTURE(ranks);
    CAPTURE(per_host);
    TwoLevels const exchange{per_host};
    moe::BatchedSchedule const batched;
    check_world<float>(
        moe::Dropless{}, whole, even_parts(ranks), batched, OnceTwo{1, exchange, {}, {}});
    check_world<float>(
        moe::Dropless{}, whole, odd_parts(ranks), batched, OnceTwo{2, exchange, {}, {}});
    check_world<float>(
        moe::Dropless{}, whole, odd_parts(ranks), batched, EachTwo{2, exchange, {}, {}});
  }
}

TEST_CASE("a seed gives an expert the same values whatever rank it is at")
{
  auto const one = layer_of(moe::Dropless{}, moe::BatchedDispatcher{});
  auto all       = one.make_params<float>(own(), sizes);
  moe::initialize(own(), all.view(), 7);
  for (int const ranks : {2, 4, 8}) {
    std::vector<std::vector<float>> parts(static_cast<std::size_t>(ranks));
    ThreadWorld(ranks).run([&](ThreadCommunicator const& comm) {
      auto const layer = layer_of(moe::Dropless{}, moe::AllToAllDispatcher(comm));
      auto mine        = layer.make_params<float>(own(), sizes);
      moe::initialize(own(), mine.view(), 7);
      parts[static_cast<std::size_t>(comm.rank())] = moe::test::values_by_expert(mine.view());
    });
    std::vector<float> together;
    for (auto const& p : parts) {
      together = joined(together, p);
    }
    CHECK(same_bits(together, moe::test::values_by_expert(all.view())));
  }
}

TEST_CASE("no tokens anywhere")
{
  auto whole      = batch<float>(4).rows({});
  int const ranks = 3;
  auto const passes =
      run_world<float>(moe::Dropless{}, moe::BatchedSchedule{}, whole, {{0, 0}, {0, 0}, {0, 0}});
  for (int r = 0; r < ranks; ++r) {
    CHECK(passes[static_cast<std::size_t>(r)].y.empty());
  }
}
