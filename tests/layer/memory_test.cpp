// What a layer asks memory for: nothing in its steady state, for backward only what the design
// lists, and whichever request fails, nothing is lost and nothing half done.
#include <doctest/doctest.h>

#include <functional>

#include "support/layer_batch.hpp"
#include "support/tracking_resource.hpp"

using moe::BFloat16, moe::Host, moe::index_t, moe::PoolingResource, moe::Products;
using moe::test::Batch, moe::test::CountingResource, moe::test::FailingResource,
    moe::test::GateFfnSizes, moe::test::LayerPass, moe::test::run_pass, moe::test::same_bits;

namespace {

constexpr index_t tokens = 50;
constexpr GateFfnSizes sizes{.hidden = 24, .experts = 6, .expert = {.ffn = 10}};

template <class CapacityT, class... ExtraTs>
auto layer_of(CapacityT capacity, ExtraTs... extras)
{
  return moe::Layer{moe::SoftmaxTopK<2, moe::renormalized>{},
                    capacity,
                    moe::BatchedDispatcher{},
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = 1e-2},
                    moe::RouterZLoss{.coeff = 1e-3},
                    extras...};
}
auto const dropless = layer_of(moe::Dropless{});
auto const bounded  = layer_of(moe::DropByPosition{moe::CeilCapacity{.factor = 0.75}});
auto const by_block = layer_of(moe::Dropless{}, moe::ReproducibleReduction{.block = 16});

// One pass's outputs, filled with what a failed one must leave there.
template <class LayerT>
struct Outputs {
  std::vector<float> y  = std::vector<float>(tokens * sizes.hidden, 5);
  std::vector<float> dx = std::vector<float>(tokens * sizes.hidden, 6);
  std::vector<float> grads;

  explicit Outputs(LayerT const&)
      : grads(static_cast<std::size_t>(moe::test::flat_size<LayerT, float>(sizes)), 0)
  {
  }
  moe::View<float, 2, Host> y_view()
  {
    return moe::View<float, 2, Host>(y.data(), tokens, sizes.hidden);
  }
  moe::View<float, 2, Host> dx_view()
  {
    return moe::View<float, 2, Host>(dx.data(), tokens, sizes.hidden);
  }
  auto grad_views() { return moe::test::params_at<LayerT, float>(grads.data(), sizes); }
  friend bool operator==(Outputs const& a, Outputs const& b)
  {
    return same_bits(a.y, b.y) && same_bits(a.dx, b.dx) && same_bits(a.grads, b.grads);
  }
};

// Calls `work` with its first, second, ... allocation failing, until it does without. Each failure
// must be reported; `after` then looks at what is left. Returns how many there were.
int fail_each(FailingResource& memory,
              std::function<void()> const& work,
              std::function<void()> const& after)
{
  for (int k = 1;; ++k) {
    CAPTURE(k);
    memory.fail_at(static_cast<std::size_t>(k));
    bool reported = false;
    try {
      work();
    } catch (moe::OutOfMemoryError const& e) {
      reported = true;
      CHECK(std::string(e.what()).find("bytes is ") != std::string::npos);
    }
    bool const failed = memory.failed();
    memory.fail_at(0);
    REQUIRE(reported == failed);
    if (!failed) { return k - 1; }
    after();
  }
}

template <class LayerT>
void check_failures(LayerT const& layer)
{
  CountingResource counting;
  FailingResource failing(0, &counting);
  Host const exec{{.threads = 2, .resource = &failing, .products = Products::own}};
  auto const b        = Batch<float>::make(layer, sizes, tokens, 1);
  auto const p        = b.param_views(layer);
  auto const expected = run_pass<float>(layer, exec, b);
  Outputs<LayerT> const untouched(layer);
  auto const nothing_lost = [&](std::size_t blocks) {
    return [&counting, blocks] { CHECK(counting.blocks() == blocks); };
  };

  // Made anew: what was there before the failure is given back.
  REQUIRE(counting.blocks() == 0);
  CHECK(fail_each(
            failing,
            [&] { (void)layer.template make_params<float>(exec, sizes); },
            nothing_lost(0)) == 1);
  CHECK(fail_each(
            failing,
            [&] { (void)layer.template make_saved<float>(exec, sizes, tokens); },
            nothing_lost(0)) > 10);
  Outputs<LayerT> out(layer);
  CHECK(fail_each(
            failing,
            [&] { (void)layer.forward(exec, p, b.input(), out.y_view()); },
            [&] {
              CHECK(counting.blocks() == 0);
              CHECK(out == untouched);
            }) > 15);
  CHECK(same_bits(out.y, expected.y));

  out.y = untouched.y;
  CHECK(fail_each(
            failing,
            [&] { layer.evaluate(exec, p, b.input(), out.y_view()); },
            [&] {
              CHECK(counting.blocks() == 0);
              CHECK(out == untouched);
            }) > 15);
  CHECK(same_bits(out.y, expected.y));

  // The caller's state: after a failure there is nothing in it for backward, and the next forward
  // fills it as ever.
  out.y      = untouched.y;
  auto saved = layer.template make_saved<float>(exec, sizes, tokens);
  layer.forward(exec, p, b.input(), Outputs<LayerT>(layer).y_view(), saved);
  std::size_t const blocks = counting.blocks();
  auto const backward      = [&] {
    layer.backward(exec, p, saved, b.input(), b.dy_view(), out.grad_views(), out.dx_view());
  };
  CHECK(fail_each(
            failing,
            [&] { layer.forward(exec, p, b.input(), out.y_view(), saved); },
            [&] {
              CHECK(counting.blocks() == blocks);
              CHECK_THROWS_AS(backward(), moe::StateError);
              CHECK(out == untouched);
            }) > 10);
  CHECK(same_bits(out.y, expected.y));

  // A failed backward leaves the gradients as they were, and the state for another try.
  out.y = untouched.y;
  CHECK(fail_each(failing, backward, [&] {
          CHECK(counting.blocks() == blocks);
          CHECK(saved.filled);
          CHECK(out == untouched);
        }) > 5);
  CHECK(same_bits(out.dx, expected.dx));
  CHECK(same_bits(out.grads, expected.grads));
  CHECK(expected == run_pass<float>(layer, exec, b, saved));
  CHECK(counting.mistakes() == 0);
}

template <class LayerT>
void check_steady(LayerT const& layer, Products products)
{
  CountingResource counting;
  {
    PoolingResource pool(&counting);  // what a Host has inside, over memory that counts
    Host const exec{{.threads = 2, .resource = &pool, .products = products}};
    auto saved      = layer.template make_saved<float>(exec, sizes, tokens);
    auto const step = [&](unsigned seed) {  // other tokens, so other loads
      auto const b = Batch<float>::make(layer, sizes, tokens, seed);
      Outputs<LayerT> out(layer);
      (void)run_pass<float>(layer, exec, b, saved);
      layer.evaluate(exec, b.param_views(layer), b.input(), out.y_view());
      (void)run_pass<float>(layer, exec, b);  // a state of its own comes from the pool as well
    };
    step(1);
    step(2);
    std::size_t const asked = counting.allocations();
    for (unsigned seed = 3; seed < 20; ++seed) {
      step(seed);
    }
    CHECK(counting.allocations() == asked);
    CHECK(counting.deallocations() == 0);
  }
  CHECK(counting.blocks() == 0);
  CHECK(counting.mistakes() == 0);
}

// Bytes that live on after a forward pass.
template <class T, class LayerT>
std::size_t kept_bytes(LayerT const& layer, GateFfnSizes const& s, index_t T_)
{
  CountingResource counting;
  Host const exec{{.threads = 1, .resource = &counting}};
  auto const b = Batch<T>::make(layer, s, T_, 1);
  std::vector<T> y(b.x.size());
  auto const saved = layer.forward(
      exec, b.param_views(layer), b.input(), moe::View<T, 2, Host>(y.data(), T_, s.hidden));
  return counting.bytes();
}

// What design lists, T tokens of K = 2, for R slots, with two losses over the batch: logits, ids
// and weights, the plan, pre-activations, and what losses and statistics counted.
std::size_t listed_bytes(index_t T, index_t E, index_t F, index_t R, index_t element)
{
  index_t const A       = 2 * T;
  index_t const logits  = 4 * T * E;
  index_t const routing = 4 * A + 4 * A;
  index_t const plan = 4 * (E + E + (E + 1) + A + R + R + A + 1);  // counts, offsets, maps, drops
  index_t const pre  = element * R * 2 * F;
  index_t const statistics =
      2 * 4 * (E + 1 + 1) + 4 * 2 + 4 + 4;  // loads; losses' values; bad input
  return static_cast<std::size_t>(logits + routing + plan + pre + statistics);
}

}  // namespace

TEST_CASE("whichever allocation fails: OutOfMemoryError, nothing lost, gradients as they were")
{
  SUBCASE("dropless")
  {
    check_failures(dropless);
  }
  SUBCASE("bounded")
  {
    check_failures(bounded);
  }
  SUBCASE("summing by blocks")
  {
    check_failures(by_block);
  }
}

TEST_CASE("a steady state asks for nothing")
{
  SUBCASE("dropless")
  {
    check_steady(dropless, Products::own);
  }
  SUBCASE("bounded")
  {
    check_steady(bounded, Products::own);
  }
  SUBCASE("summing by blocks")
  {
    check_steady(by_block, Products::own);
  }
  SUBCASE("with the products of a default Host")
  {
    check_steady(dropless, Products::automatic);
  }
}

TEST_CASE("kept for backward: what the design lists, not x, activations or outputs")
{
  for (index_t const T : {1, 50, 333}) {
    for (index_t const D : {8, 24, 64}) {  // D is in none of it
      CAPTURE(T);
      CAPTURE(D);
      GateFfnSizes const s{.hidden = D, .experts = 6, .expert = {.ffn = 10}};
      CHECK(kept_bytes<float>(dropless, s, T) == listed_bytes(T, 6, 10, 2 * T, 4));
      index_t const slots = 6 * ((2 * T * 3 + 23) / 24);  // ceil(2 T / 6 * 0.75) each
      CHECK(kept_bytes<float>(bounded, s, T) == listed_bytes(T, 6, 10, slots, 4));
    }
  }
  GateFfnSizes const s{.hidden = 24, .experts = 6, .expert = {.ffn = 10}};
  CHECK(kept_bytes<BFloat16>(dropless, s, 50) == listed_bytes(50, 6, 10, 100, 2));

  // Experts of half the width, twice as many, twice chosen, keep the same pre-activations.
  auto const fine = moe::Layer{moe::SoftmaxTopK<4, moe::renormalized>{},
                               moe::Dropless{},
                               moe::BatchedDispatcher{},
                               moe::Ffn<moe::SwiGlu>{}};
  CountingResource counting;
  Host const exec{{.threads = 1, .resource = &counting}};
  auto const coarse_saved = dropless.make_saved<float>(exec, s, 50);
  auto const fine_saved   = fine.make_saved<float>(exec, {24, 12, {5}, {}, {}}, 50);
  CHECK(fine_saved.experts.pre.bytes() == coarse_saved.experts.pre.bytes());
}
