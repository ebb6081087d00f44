// Compile at -O1: many steps, little work in each.
// What fails on all ranks alike fails no world: gradients are as they were, and the same layer's
// next step has the bits of one that never failed.
#include <doctest/doctest.h>

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

// What a rank has for the steps of one layer.
template <class LayerT>
struct Rank {
  using Params =
      decltype(std::declval<LayerT>().template make_params<float>(std::declval<Host>(), sizes));
  using Saved = decltype(std::declval<LayerT>().template make_saved<float>(
      std::declval<Host>(), sizes, tokens));
  LayerT const& layer;
  Host const& exec;
  Params params, grads;
  moe::Tensor<float, 2, Host> y, dx;
  Saved saved;

  Rank(LayerT const& l, Host const& e, index_t n)
      : layer{l},
        exec{e},
        params{l.template make_params<float>(e, sizes)},
        grads{l.template make_params<float>(e, sizes)},
        y(e, n, sizes.hidden),
        dx(e, n, sizes.hidden),
        saved{l.template make_saved<float>(e, sizes, n)}
  {
    moe::initialize(e, params.view(), 7);
  }
  void step(Batch<float> const& b)
  {
    layer.forward(exec, params, b.input(), y.view(), saved);
    layer.backward(exec, params, saved, b.input(), b.dy_view(), grads.view(), dx.view());
  }
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
          rank.step(mine);
        } catch (moe::OutOfMemoryError const&) {
          failed = true;
        }
        memory.fail_at(0);
        if (failed) {
          CHECK(rank.no_gradients());
          rank.step(mine);
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
    CHECK_THROWS_AS(much.step(large), moe::ValueError);
    for (int step = 0; step < 3; ++step) {
      expected.step(small);
      rank.step(small);
      CHECK_THROWS_AS(much.step(large), moe::ValueError);
    }
    CHECK(same_bits(rank.result(), expected.result()));
    CHECK(!rank.no_gradients());
  });
}
