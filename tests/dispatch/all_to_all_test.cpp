// Compile at -O1: many layers, little work in each.
// Experts over ranks that are threads: what every rank gives is, bit for bit, what one rank with
// all tokens and all experts gives.
#include <doctest/doctest.h>

#include <mutex>

#include "support/rank_batch.hpp"

using moe::BFloat16, moe::Host, moe::index_t, moe::Products, moe::ThreadCommunicator,
    moe::ThreadWorld;
using moe::test::Batch, moe::test::GateFfnSizes, moe::test::RankPass, moe::test::run_rank,
    moe::test::same_bits, moe::test::TokenRange;

namespace {

constexpr GateFfnSizes sizes{.hidden = 24, .experts = 6, .expert = {.ffn = 17}};
constexpr index_t tokens = 53;

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

Host own()
{
  return Host({.threads = 1, .products = Products::own});
}

// Even parts, or parts of which some are empty and one is large.
std::vector<TokenRange> even_parts(int ranks)
{
  std::vector<TokenRange> parts;
  for (int r = 0; r < ranks; ++r) {
    parts.push_back({tokens * r / ranks, tokens * (r + 1) / ranks - tokens * r / ranks});
  }
  return parts;
}
std::vector<TokenRange> odd_parts(int ranks)
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

template <class T, class CapacityT, class ScheduleT, class RowsT = moe::EachChoice>
std::vector<RankPass<T>> run_world(CapacityT capacity,
                                   ScheduleT schedule,
                                   Batch<T> const& whole,
                                   std::vector<TokenRange> const& parts,
                                   RowsT rows = {})
{
  int const P = static_cast<int>(parts.size());
  std::vector<RankPass<T>> passes(parts.size());
  ThreadWorld(P, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& comm) {
    moe::AllToAllDispatcher const dispatcher(comm, {}, schedule, moe::FlatExchange{}, rows);
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

template <class T,
          class CapacityT,
          class ScheduleT = moe::BatchedSchedule,
          class RowsT     = moe::EachChoice>
void check_world(CapacityT capacity,
                 Batch<T> const& whole,
                 std::vector<TokenRange> const& parts,
                 ScheduleT schedule = {},
                 RowsT rows         = {})
{
  // The compact layout, as rows arrive in.
  auto const reference_layer = layer_of(capacity, moe::BatchedDispatcher<moe::BatchedSchedule>{});
  auto const one =
      run_rank<T>(reference_layer, own(), whole, {0, whole.tokens}, {0, whole.sizes.experts});
  auto const passes = run_world<T>(capacity, schedule, whole, parts, rows);

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
  CHECK(same_bits(all.y, one.y));
  CHECK(same_bits(all.evaluated, one.evaluated));
  CHECK(same_bits(all.dx, one.dx));
  CHECK(same_bits(all.expert_grads, one.expert_grads));
  CHECK(dropped == one.loads.dropped);
  // Sums over tokens are taken rank by rank: close, and the same again.
  auto const near = [](auto const& a, auto const& b) {
    REQUIRE(a.size() == b.size());
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      error += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
      norm += double(b[i]) * double(b[i]);
    }
    CHECK(norm > 0);
    CHECK(error <= 1e-10 * norm);
  };
  near(passes[0].gate_grads, one.gate_grads);
  near(passes[0].losses, one.losses);
  CHECK(passes == run_world<T>(capacity, schedule, whole, parts, rows));
}

template <class T>
Batch<T> batch(unsigned seed)
{
  return Batch<T>::make(layer_of(moe::Dropless{}, moe::SerialDispatcher{}), sizes, tokens, seed);
}

}  // namespace

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
  for (int const ranks : {2, 3, 8}) {
    CAPTURE(ranks);
    for (auto const& parts : {even_parts(ranks), odd_parts(ranks)}) {
      check_world<float>(moe::Dropless{}, whole, parts, moe::BatchedSchedule{}, moe::OncePerRank{});
      check_world<float>(moe::DropByWeight{moe::CeilCapacity{.factor = 0.6}},
                         whole,
                         parts,
                         moe::SerialSchedule{},
                         moe::OncePerRank{});
    }
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
  auto const whole = batch<float>(8);
  auto const one   = run_rank<float>(layer_of(moe::Dropless{}, moe::BatchedDispatcher<>{}),
                                   own(),
                                   whole,
                                     {0, tokens},
                                     {0, sizes.experts});
  for (auto const& [ranks, per_host] : std::vector<std::pair<int, int>>{
           {1, 1}, {2, 1}, {2, 2}, {4, 2}, {6, 3}, {6, 2}, {8, 4}, {8, 2}, {8, 8}}) {
    CAPTURE(ranks);
    CAPTURE(per_host);
    for (auto const& parts : {even_parts(ranks), odd_parts(ranks)}) {
      std::vector<RankPass<float>> passes(parts.size());
      ThreadWorld(ranks, {.deadline = std::chrono::seconds(60)})
          .run([&](ThreadCommunicator const& comm) {
            moe::HierarchicalExchange const exchange(comm, per_host);
            moe::AllToAllDispatcher const dispatcher(
                comm, {}, moe::BatchedSchedule{}, exchange, moe::OncePerRank{});
            auto const r = static_cast<std::size_t>(comm.rank());
            passes[r]    = run_rank<float>(layer_of(moe::Dropless{}, dispatcher),
                                        own(),
                                        whole,
                                        parts[r],
                                        dispatcher.experts_here(sizes.experts));
          });
      RankPass<float> all;
      for (auto const& p : passes) {
        all.y            = joined(all.y, p.y);
        all.dx           = joined(all.dx, p.dx);
        all.expert_grads = joined(all.expert_grads, p.expert_grads);
      }
      CHECK(same_bits(all.y, one.y));
      CHECK(same_bits(all.dx, one.dx));
      CHECK(same_bits(all.expert_grads, one.expert_grads));
    }
  }
}

TEST_CASE("hosts of unequal size are refused")
{
  CHECK_THROWS_AS(ThreadWorld(3).run([&](ThreadCommunicator const& comm) {
    moe::HierarchicalExchange const exchange(comm, 2);
  }),
                  moe::ShapeError);
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

TEST_CASE("ranks that run another layer are told so, all of them, at the first call")
{
  auto const whole = batch<float>(5);
  std::mutex mutex;
  std::vector<std::string> told;
  auto const run = [&](auto const& of_rank) {
    told.clear();
    ThreadWorld const world(3, {.deadline = std::chrono::seconds(20)});
    CHECK_THROWS_AS(world.run([&](ThreadCommunicator const& comm) {
      try {
        of_rank(comm);
      } catch (moe::CommunicationError const& e) {
        std::lock_guard const lock(mutex);
        told.emplace_back(e.what());
        throw;
      }
    }),
                    moe::CommunicationError);
    REQUIRE(told.size() == 3);
    CHECK(told[0] == told[1]);
    CHECK(told[0] == told[2]);
  };
  run([&](ThreadCommunicator const& comm) {
    auto other = whole;
    if (comm.rank() == 2) { other.sizes.expert.ffn = 18; }
    auto const layer = layer_of(moe::Dropless{}, moe::AllToAllDispatcher(comm));
    other.params.assign(other.params.size() * 2, 0.f);
    (void)run_rank<float>(layer, own(), other, {0, 4}, moe::experts_of_rank(6, 3, comm.rank()));
  });
  CHECK(told[0].find("parameters of all experts") != std::string::npos);
  CHECK(told[0].find("rank 2") != std::string::npos);
  run([&](ThreadCommunicator const& comm) {
    auto const mine = moe::experts_of_rank(6, 3, comm.rank());
    if (comm.rank() == 1) {
      (void)run_rank<float>(layer_of(moe::DropByWeight<>{}, moe::AllToAllDispatcher(comm)),
                            own(),
                            whole,
                            {0, 4},
                            mine);
    } else {
      (void)run_rank<float>(
          layer_of(moe::Dropless{}, moe::AllToAllDispatcher(comm)), own(), whole, {0, 4}, mine);
    }
  });
  CHECK(told[0].find("type of the layer") != std::string::npos);
}

TEST_CASE("parameters of other experts than this rank's are refused")
{
  auto const whole = batch<float>(6);
  ThreadWorld const world(2, {.deadline = std::chrono::seconds(20)});
  CHECK_THROWS_WITH_AS(world.run([&](ThreadCommunicator const& comm) {
    auto const layer = layer_of(moe::Dropless{}, moe::AllToAllDispatcher(comm));
    std::vector<float> y(whole.x.size());
    layer.evaluate(own(),
                   whole.param_views(layer),  // all six
                   whole.x_view(),
                   moe::View<float, 2, Host>(y.data(), tokens, sizes.hidden));
  }),
                       doctest::Contains("experts of this rank"),
                       moe::ShapeError);
}
