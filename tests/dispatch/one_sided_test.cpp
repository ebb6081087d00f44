// Compile at -O1: many layers, little work in each.
// Rows that are stored straight into windows of peers: the bits of one rank, windows used again,
// and what is refused.
#include <doctest/doctest.h>

#include <array>
#include <stdexcept>

#include "support/rank_world.hpp"

using moe::BFloat16, moe::Host, moe::index_t, moe::ThreadCommunicator, moe::ThreadWorld;
using moe::test::Batch, moe::test::RankPass, moe::test::run_rank, moe::test::same_bits,
    moe::test::TokenRange;
using namespace moe::test::ranks;

namespace {

using Exchange = moe::OneSidedExchange<Host>;

moe::DropByWeight<moe::CeilCapacity> drops()
{
  return moe::DropByWeight{moe::CeilCapacity{.factor = 0.6}};
}

// Room for any part of the batch, also where each expert chooses all of it.
Exchange exchange()
{
  return Exchange({.tokens = tokens, .choices = sizes.experts * tokens});
}

// What each rank's program(dispatcher, rank) gives.
template <class ScheduleT, class Program>
auto at_ranks(int ranks, int chunks, ScheduleT schedule, Program const& program)
{
  auto const dispatcher = [&](ThreadCommunicator const& comm) {
    return moe::AllToAllDispatcher(comm, {.chunks = chunks}, schedule, exchange());
  };
  using Result = decltype(program(dispatcher(std::declval<ThreadCommunicator const&>()), 0));
  std::vector<Result> results(static_cast<std::size_t>(ranks));
  ThreadWorld(ranks, {.deadline = std::chrono::seconds(60)})
      .run([&](ThreadCommunicator const& comm) {
        results[static_cast<std::size_t>(comm.rank())] = program(dispatcher(comm), comm.rank());
      });
  return results;
}

template <class T, class CapacityT>
RankPass<T> one_rank(CapacityT capacity, Batch<T> const& whole)
{
  return run_rank<T>(layer_of(capacity, moe::BatchedDispatcher<moe::BatchedSchedule>{}),
                     own(),
                     whole,
                     {0, tokens},
                     {0, sizes.experts});
}

template <class T>
RankPass<T> together(std::vector<RankPass<T>> const& passes)
{
  RankPass<T> all;
  for (auto const& p : passes) {
    all.y            = joined(all.y, p.y);
    all.evaluated    = joined(all.evaluated, p.evaluated);
    all.dx           = joined(all.dx, p.dx);
    all.expert_grads = joined(all.expert_grads, p.expert_grads);
  }
  return all;
}

template <class T>
void check_same(RankPass<T> const& all, RankPass<T> const& one)
{
  CHECK(same_bits(all.y, one.y));
  CHECK(same_bits(all.evaluated, one.evaluated));
  CHECK(same_bits(all.dx, one.dx));
  CHECK(same_bits(all.expert_grads, one.expert_grads));
}

template <class T, class CapacityT, class ScheduleT>
void check_bits(CapacityT capacity,
                Batch<T> const& whole,
                std::vector<TokenRange> const& parts,
                int chunks,
                ScheduleT schedule)
{
  CAPTURE(chunks);
  auto const ranks  = static_cast<int>(parts.size());
  auto const passes = at_ranks(ranks, chunks, schedule, [&](auto const& dispatcher, int rank) {
    return run_rank<T>(layer_of(capacity, dispatcher),
                       own(),
                       whole,
                       parts[static_cast<std::size_t>(rank)],
                       dispatcher.experts_here(sizes.experts));
  });
  check_same(together(passes), one_rank<T>(capacity, whole));
}

}  // namespace

TEST_CASE("rows stored into peers' windows: the bits of one rank")
{
  auto const whole = batch<float>(41);
  for (int const ranks : {1, 2, 3, 4, 8}) {  // 6 experts: 6, 3, 2, 1 or 2, 0 or 1 of them each
    CAPTURE(ranks);
    for (int const chunks : {1, 2, 3, 5}) {  // also more than experts, and than buffers
      check_bits<float>(moe::Dropless{}, whole, even_parts(ranks), chunks, moe::BatchedSchedule{});
      check_bits<float>(drops(), whole, odd_parts(ranks), chunks, moe::SerialSchedule{});
    }
    check_bits<float>(moe::Dropless{}, whole, odd_parts(ranks), 2, moe::BatchedSchedule{});
    check_bits<float>(drops(), whole, even_parts(ranks), 1, moe::SerialSchedule{});
  }
  check_bits<double>(moe::Dropless{}, batch<double>(42), even_parts(4), 2, moe::BatchedSchedule{});
  check_bits<double>(drops(), batch<double>(43), odd_parts(3), 1, moe::SerialSchedule{});
  check_bits<BFloat16>(
      moe::Dropless{}, batch<BFloat16>(44), odd_parts(3), 3, moe::BatchedSchedule{});
  check_bits<BFloat16>(drops(), batch<BFloat16>(45), even_parts(2), 1, moe::SerialSchedule{});
}

// So that several teams work on the rows from one rank for one expert.
TEST_CASE("room for many more rows than come: the bits of one rank")
{
  auto const whole = batch<float>(46);
  auto const one   = one_rank<float>(moe::Dropless{}, whole);
  for (int const ranks : {2, 4}) {
    CAPTURE(ranks);
    auto const parts = odd_parts(ranks);
    std::vector<RankPass<float>> passes(static_cast<std::size_t>(ranks));
    ThreadWorld(ranks, {.deadline = std::chrono::seconds(60)})
        .run([&](ThreadCommunicator const& comm) {
          auto const r = static_cast<std::size_t>(comm.rank());
          Exchange const roomy({.tokens = tokens, .choices = 6000});
          moe::AllToAllDispatcher const dispatcher(
              comm, {.chunks = 2}, moe::BatchedSchedule{}, roomy);
          passes[r] = run_rank<float>(layer_of(moe::Dropless{}, dispatcher),
                                      own(),
                                      whole,
                                      parts[r],
                                      dispatcher.experts_here(sizes.experts));
        });
    check_same(together(passes), one);
  }
}

namespace {

// Of one rank: forwards of two batches into states of their own, an evaluation, backwards, the
// first batch's first; `rounds` times over the same states.
template <class LayerT>
std::array<RankPass<float>, 2> two_in_flight(LayerT const& layer,
                                             std::array<Batch<float>, 2> const& batches,
                                             TokenRange range,
                                             moe::ExpertRange experts,
                                             int rounds)
{
  Host const exec = own();
  auto params     = layer.template make_params<float>(exec, sizes);
  moe::test::copy_params(batches[0].param_views(layer), params.view(), experts.first);
  std::array<Batch<float>, 2> const parts{moe::test::part_of(batches[0], range),
                                          moe::test::part_of(batches[1], range)};
  auto a = layer.template make_saved<float>(exec, sizes, range.count);
  auto b = layer.template make_saved<float>(exec, sizes, range.count);
  std::array<RankPass<float>, 2> out;
  for (auto& o : out) {
    auto const n = static_cast<std::size_t>(range.count * sizes.hidden);
    o.y.resize(n);
    o.evaluated.resize(n);
    o.dx.resize(n);
  }
  auto const view = [&](std::vector<float>& v) {
    return moe::View<float, 2, Host>(v.data(), range.count, sizes.hidden);
  };
  for (int round = 0; round < rounds; ++round) {
    layer.forward(exec, params, parts[0].input(), view(out[0].y), a);
    layer.forward(exec, params, parts[1].input(), view(out[1].y), b);
    layer.evaluate(exec, params, parts[0].input(), view(out[0].evaluated));
    layer.evaluate(exec, params, parts[1].input(), view(out[1].evaluated));
    auto const backward = [&](auto const& saved, std::size_t i) {
      auto grads = layer.template make_params<float>(exec, sizes);
      layer.backward(
          exec, params, saved, parts[i].input(), parts[i].dy_view(), grads.view(), view(out[i].dx));
      out[i].expert_grads = moe::test::values_by_expert(grads.view());
    };
    backward(a, 0);
    backward(b, 1);
    backward(a, 0);  // what the other one received has not touched its rows
  }
  return out;
}

}  // namespace

TEST_CASE("two batches in flight, evaluations between, states used again: the bits of one rank")
{
  std::array<Batch<float>, 2> batches{batch<float>(46), batch<float>(47)};
  auto const one = two_in_flight(layer_of(moe::Dropless{}, moe::BatchedDispatcher<>{}),
                                 batches,
                                 {0, tokens},
                                 {0, sizes.experts},
                                 1);
  for (int const ranks : {2, 3}) {
    for (int const chunks : {1, 2}) {
      CAPTURE(ranks);
      CAPTURE(chunks);
      auto const parts = odd_parts(ranks);
      auto const both =
          at_ranks(ranks, chunks, moe::BatchedSchedule{}, [&](auto const& dispatcher, int rank) {
            return two_in_flight(layer_of(moe::Dropless{}, dispatcher),
                                 batches,
                                 parts[static_cast<std::size_t>(rank)],
                                 dispatcher.experts_here(sizes.experts),
                                 3);
          });
      for (std::size_t i = 0; i < 2; ++i) {
        std::vector<RankPass<float>> passes;
        for (auto const& of_rank : both) {
          passes.push_back(of_rank[i]);
        }
        check_same(together(passes), one[i]);
      }
    }
  }
}

namespace {

// Steps of a layer of which nothing but rows travels: no counts, no losses, no comparison of calls.
// y, dx and the experts' gradients of the last one, after a second backward.
template <class DispatcherT>
std::vector<float> steps(DispatcherT const& dispatcher, Batch<float> const& whole, TokenRange range)
{
  Host const exec  = own();
  auto const layer = moe::Layer{moe::SoftmaxTopK<2>{},
                                moe::PerRank{moe::DropByPosition{}},
                                dispatcher,
                                moe::Ffn<moe::SwiGlu>{}};
  auto const part  = moe::test::part_of(whole, range);
  auto params      = layer.template make_params<float>(exec, sizes);
  moe::initialize(exec, params.view(), 1);
  auto saved = layer.template make_saved<float>(exec, sizes, range.count);
  moe::Tensor<float, 2, Host> y(exec, range.count, sizes.hidden),
      dx(exec, range.count, sizes.hidden);
  std::vector<float> all;
  for (int i = 0; i < 5; ++i) {
    layer.forward(exec, params, part.input(), y.view(), saved);
    for (int again = 0; again < 2; ++again) {
      auto grads = layer.template make_params<float>(exec, sizes);
      layer.backward(exec, params, saved, part.input(), part.dy_view(), grads.view(), dx.view());
      all = moe::test::values_by_expert(grads.view());
    }
  }
  all = joined(all, moe::test::view_values(y.const_view()));
  return joined(all, moe::test::view_values(dx.const_view()));
}

}  // namespace

TEST_CASE("steps that only the windows' flags order have the bits of those with collectives")
{
  auto const whole = batch<float>(51);
  for (int const ranks : {2, 4}) {
    CAPTURE(ranks);
    auto const parts = even_parts(ranks);
    std::vector<std::vector<float>> stored(parts.size()), sent(parts.size());
    ThreadWorld(ranks, {.deadline = std::chrono::seconds(60)})
        .run([&](ThreadCommunicator const& comm) {
          auto const r = static_cast<std::size_t>(comm.rank());
          moe::AllToAllOptions const options{.compare_calls = false};
          sent[r] = steps(moe::AllToAllDispatcher(comm, options), whole, parts[r]);
          stored[r] =
              steps(moe::AllToAllDispatcher(comm, options, moe::BatchedSchedule{}, exchange()),
                    whole,
                    parts[r]);
        });
    for (std::size_t r = 0; r < parts.size(); ++r) {
      CHECK(same_bits(stored[r], sent[r]));
    }
  }
}

TEST_CASE("experts that choose among the tokens of all ranks: the bits of one rank")
{
  auto const whole    = batch<float>(52);
  auto const layer_of = [](auto const& dispatcher) {
    return moe::Layer{
        moe::ExpertChoice{.factor = 1.5}, moe::Dropless{}, dispatcher, moe::Ffn<moe::SwiGlu>{}};
  };
  auto const one = run_rank<float>(
      layer_of(moe::BatchedDispatcher<>{}), own(), whole, {0, tokens}, {0, sizes.experts});
  for (int const ranks : {2, 3}) {
    CAPTURE(ranks);
    auto const parts = odd_parts(ranks);
    check_same(together(at_ranks(ranks,
                                 ranks - 1,
                                 moe::BatchedSchedule{},
                                 [&](auto const& dispatcher, int rank) {
                                   return run_rank<float>(layer_of(dispatcher),
                                                          own(),
                                                          whole,
                                                          parts[static_cast<std::size_t>(rank)],
                                                          dispatcher.experts_here(sizes.experts));
                                 })),
               one);
  }
}

TEST_CASE("a state that is used again makes no window")
{
  ThreadWorld(2, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& comm) {
    auto const whole = batch<float>(48);
    auto const mine  = exchange();
    auto const step  = [&](int windows) {
      moe::AllToAllDispatcher const dispatcher(comm, {}, moe::BatchedSchedule{}, mine);
      (void)run_rank<float>(layer_of(moe::Dropless{}, dispatcher),
                            own(),
                            whole,
                            even_parts(2)[static_cast<std::size_t>(comm.rank())],
                            dispatcher.experts_here(sizes.experts));
      CHECK(mine.windows() == windows);
    };
    CHECK(mine.windows() == 0);
    step(1);  // that of the evaluation is free for the forward
    step(1);
  });
}

namespace {

void run_with(Exchange const& at_rank_0, Exchange const& at_rank_1, bool throws = false)
{
  auto const whole = batch<float>(49);
  ThreadWorld(2, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& comm) {
    moe::AllToAllDispatcher const dispatcher(
        comm, {}, moe::BatchedSchedule{}, comm.rank() == 0 ? at_rank_0 : at_rank_1);
    auto const pass = [&] {
      (void)run_rank<float>(layer_of(moe::Dropless{}, dispatcher),
                            own(),
                            whole,
                            even_parts(2)[static_cast<std::size_t>(comm.rank())],
                            dispatcher.experts_here(sizes.experts));
    };
    pass();
    if (throws && comm.rank() == 1) { throw std::runtime_error("rank 1 has had enough"); }
    pass();
  });
}

}  // namespace

TEST_CASE("what is refused ends all ranks with its cause")
{
  index_t const half = (tokens + 1) / 2;
  CHECK_NOTHROW(run_with(Exchange({.tokens = half, .choices = 2 * half}),
                         Exchange({.tokens = half, .choices = 2 * half})));
  auto const run = [](moe::OneSidedOptions a, moe::OneSidedOptions b) {
    run_with(Exchange(a), Exchange(b));
  };
  CHECK_THROWS_WITH_AS(run({.tokens = 9, .choices = 99}, {.tokens = 9, .choices = 99}),
                       doctest::Contains("tokens is 2"),
                       moe::ValueError);
  CHECK_THROWS_WITH_AS(run({.tokens = half, .choices = half}, {.tokens = half, .choices = half}),
                       doctest::Contains("choices is 5"),
                       moe::ValueError);
  // One rank alone sees it.
  Exchange const large({.tokens = tokens, .choices = 2 * tokens});
  auto const uneven = [&](std::vector<TokenRange> const& parts) {
    auto const whole = batch<float>(50);
    ThreadWorld(2, {.deadline = std::chrono::seconds(60)}).run([&](ThreadCommunicator const& comm) {
      moe::AllToAllDispatcher const dispatcher(
          comm, {}, moe::BatchedSchedule{}, Exchange({.tokens = 40, .choices = 80}));
      (void)run_rank<float>(layer_of(moe::Dropless{}, dispatcher),
                            own(),
                            whole,
                            parts[static_cast<std::size_t>(comm.rank())],
                            dispatcher.experts_here(sizes.experts));
    });
  };
  CHECK_THROWS_WITH_AS(
      uneven({{0, 41}, {41, tokens - 41}}), doctest::Contains("tokens is 41"), moe::ValueError);
  CHECK_THROWS_WITH_AS(
      run({.tokens = half, .choices = 2 * half}, {.tokens = tokens, .choices = 200}),
      doctest::Contains("window"),
      moe::CommunicationError);
  CHECK_THROWS_WITH_AS(
      run_with(large, large), doctest::Contains("every rank makes an exchange"), moe::StateError);
  CHECK_THROWS_WITH_AS(run_with(exchange(), exchange(), /*throws*/ true),
                       doctest::Contains("rank 1 has had enough"),
                       std::runtime_error);
  CHECK_THROWS_WITH_AS(
      Exchange({.tokens = -1}), doctest::Contains("tokens is -1"), moe::ValueError);
}
