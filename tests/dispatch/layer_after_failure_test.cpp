// Compile at -O1: many steps, little work in each.
// What fails on all ranks alike fails no world: gradients are as they were, and the same layer's
// next step has the bits of one that never failed. After a world that has failed, a fresh one goes
// on with the same parameters and states.
#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>

#include <moe/comm/thread_world.hpp>
#include <moe/comm/window_communicator.hpp>

#include "support/rank_batch.hpp"
#include "support/tracking_resource.hpp"

using moe::Host, moe::index_t, moe::ThreadCommunicator, moe::ThreadWorld;
using moe::test::Batch, moe::test::FailingResource, moe::test::GateFfnSizes, moe::test::same_bits,
    moe::test::view_values;

namespace {

constexpr GateFfnSizes sizes{.hidden = 8, .experts = 6, .expert = {.ffn = 6}};
constexpr index_t tokens = 24;  // in even parts, as the experts are: all ranks do the same

moe::ThreadWorldOptions const patient{.deadline = std::chrono::seconds(60)};

template <class DispatcherT>
auto layer_of(DispatcherT const& dispatcher)
{
  return moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                    moe::DropByWeight{moe::CeilCapacity{.factor = 0.8}},
                    dispatcher,
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = 1e-1}};
}

Batch<float> part(ThreadCommunicator const& comm)
{
  auto const whole = Batch<float>::make(layer_of(moe::BatchedDispatcher<>{}), sizes, tokens, 1);
  index_t const n  = tokens / comm.size();
  return moe::test::part_of(whole, {n * comm.rank(), n});
}

// What a rank has for the steps of a layer.
template <class LayerT>
struct Rank {
  using Params =
      decltype(std::declval<LayerT>().template make_params<float>(std::declval<Host>(), sizes));
  using Saved = decltype(std::declval<LayerT>().template make_saved<float>(
      std::declval<Host>(), sizes, tokens));
  Host exec;
  Params params, grads;
  moe::Tensor<float, 2, Host> y, dx;
  Saved saved;

  Rank(LayerT const& l, Host const& e, index_t n)
      : exec{e},
        params{l.template make_params<float>(e, sizes)},
        grads{l.template make_params<float>(e, sizes)},
        y(e, n, sizes.hidden),
        dx(e, n, sizes.hidden),
        saved{l.template make_saved<float>(e, sizes, n)}
  {
    moe::initialize(e, params.view(), 7);
  }
  void forward(LayerT const& layer, Batch<float> const& b)
  {
    layer.forward(exec, params, b.input(), y.view(), saved);
  }
  void step(LayerT const& layer, Batch<float> const& b)
  {
    forward(layer, b);
    layer.backward(exec, params, saved, b.input(), b.dy_view(), grads.view(), dx.view());
  }
  void forget_gradients() { moe::test::fill_values(grads.view(), 0); }
  [[nodiscard]] bool no_gradients() const
  {
    auto const all = view_values(grads.const_flat());
    return all == std::vector<float>(all.size(), 0.f);
  }
  [[nodiscard]] std::vector<float> result() const
  {
    auto all = view_values(grads.const_flat());
    for (auto const* v : {&y, &dx}) {
      auto const values = view_values(v->const_view());
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }
};

// Each allocation of a step fails, on all ranks at once.
template <class MakeLayer>
void check_out_of_memory(std::string const& what, MakeLayer const& make_layer)
{
  for (int const ranks : {2, 3}) {
    CAPTURE(ranks);
    std::size_t points = 0;
    ThreadWorld(ranks, patient).run([&](ThreadCommunicator const& comm) {
      FailingResource memory;
      Host const exec({.threads = 1, .resource = &memory, .products = moe::Products::own});
      auto const mine = part(comm);
      std::vector<float> expected;
      bool failed = true;
      for (std::size_t n = 0; failed || n == 1; ++n) {
        auto const layer = make_layer(comm, exec);
        Rank rank(layer, exec, mine.tokens);
        failed = false;
        memory.fail_at(n);
        try {
          rank.step(layer, mine);
        } catch (moe::OutOfMemoryError const&) {
          failed = true;
        }
        memory.fail_at(0);
        if (failed) {
          CHECK(rank.no_gradients());
          rank.step(layer, mine);
        }
        if (n == 0) { expected = rank.result(); }
        CHECK(same_bits(rank.result(), expected));
        if (comm.rank() == 0 && failed) { ++points; }
      }
    });
    MESSAGE(what, ", ", ranks, " ranks: allocations that failed on all ranks ", points);
    CHECK(points > 40);
  }
}

}  // namespace

TEST_CASE("no memory on all ranks alike, rows sent")
{
  check_out_of_memory("once per rank", [](auto const& comm, Host const&) {
    return layer_of(moe::AllToAllDispatcher(
        comm, {.chunks = 2}, moe::BatchedSchedule{}, moe::FlatExchange{}, moe::OncePerRank{}));
  });
}

TEST_CASE("no memory on all ranks alike, rows and small collectives stored into windows")
{
  check_out_of_memory("one-sided", [](auto const& comm, Host const& exec) {
    moe::WindowCommunicator const small(exec, comm, {.bytes = 256});
    return layer_of(moe::AllToAllDispatcher(
        small,
        {.chunks = 2},
        moe::BatchedSchedule{},
        moe::OneSidedExchange<Host>({.tokens = tokens, .choices = 2 * tokens})));
  });
}

TEST_CASE("more tokens than the windows have room for, on all ranks")
{
  ThreadWorld(3, patient).run([](ThreadCommunicator const& comm) {
    Host const exec({.threads = 1, .products = moe::Products::own});
    auto const large = part(comm);
    auto const small = moe::test::part_of(large, {0, 5});
    auto const layer = [&] {
      return layer_of(moe::AllToAllDispatcher(
          comm,
          {},
          moe::BatchedSchedule{},
          moe::OneSidedExchange<Host>({.tokens = small.tokens, .choices = 2 * small.tokens})));
    };
    auto const calm = layer(), refusing = layer();
    Rank expected(calm, exec, small.tokens), much(refusing, exec, large.tokens),
        rank(refusing, exec, small.tokens);
    CHECK_THROWS_AS(much.step(refusing, large), moe::ValueError);
    for (int step = 0; step < 3; ++step) {
      expected.step(calm, small);
      rank.step(refusing, small);
      CHECK_THROWS_AS(much.step(refusing, large), moe::ValueError);
    }
    CHECK(same_bits(rank.result(), expected.result()));
    CHECK(!rank.no_gradients());
  });
}

namespace {

// Ranks of two worlds, one after the other, with the same parameters and states: rank 1 of the
// first throws between forward and backward. In the second, what the exchange of the first has
// told.
template <class MakeExchange>
void check_fresh_world(MakeExchange const& make_exchange)
{
  constexpr int P       = 3;
  auto const layer_over = [](ThreadCommunicator const& comm, auto const& exchange) {
    return layer_of(moe::AllToAllDispatcher(comm, {}, moe::BatchedSchedule{}, exchange));
  };
  using Exchange = decltype(make_exchange());
  using Layer =
      decltype(layer_over(std::declval<ThreadCommunicator const&>(), std::declval<Exchange>()));
  std::vector<Exchange> exchanges;
  std::vector<std::unique_ptr<Rank<Layer>>> ranks(P);
  std::vector<std::vector<float>> expected(P);
  for (int r = 0; r < P; ++r) {
    exchanges.push_back(make_exchange());
  }
  CHECK_THROWS_WITH_AS(ThreadWorld(P, patient).run([&](ThreadCommunicator const& comm) {
    auto const r     = static_cast<std::size_t>(comm.rank());
    auto const mine  = part(comm);
    auto const layer = layer_over(comm, exchanges[r]);
    Host const exec({.threads = 1, .products = moe::Products::own});
    ranks[r] = std::make_unique<Rank<Layer>>(layer, exec, mine.tokens);
    ranks[r]->step(layer, mine);
    expected[r] = ranks[r]->result();
    ranks[r]->forward(layer, mine);
    if (r == 1) { throw std::runtime_error("out of luck"); }
    ranks[r]->step(layer, mine);
  }),
                       "out of luck",
                       std::runtime_error);
  ThreadWorld(P, patient).run([&](ThreadCommunicator const& comm) {
    auto const r     = static_cast<std::size_t>(comm.rank());
    auto const mine  = part(comm);
    auto const layer = layer_over(comm, make_exchange());
    ranks[r]->forget_gradients();
    ranks[r]->step(layer, mine);
    CHECK(same_bits(ranks[r]->result(), expected[r]));
  });
  if constexpr (requires { exchanges[0].windows(); }) {  // they are of the world that has failed
    CHECK_THROWS_WITH_AS(ThreadWorld(P, patient).run([&](ThreadCommunicator const& comm) {
      auto const r = static_cast<std::size_t>(comm.rank());
      ranks[r]->forward(layer_over(comm, exchanges[r]), part(comm));
    }),
                         doctest::Contains("out of luck"),
                         moe::CommunicationError);
  }
}

}  // namespace

TEST_CASE("a fresh world goes on where one has failed")
{
  check_fresh_world([] { return moe::FlatExchange{}; });
  check_fresh_world(
      [] { return moe::OneSidedExchange<Host>({.tokens = tokens, .choices = 2 * tokens}); });
}
