// Compile at -O1: many layers, little work in each.
// On every space.
// The same bits, run after run; and with the library's own products for any number of threads, any
// dispatcher and any neighbours in the batch.
#include "support/spaces.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "support/space_batch.hpp"

using moe::BFloat16, moe::Half, moe::Host, moe::index_t, moe::Products;
using moe::test::Batch, moe::test::BatchIn, moe::test::GateFfnSizes, moe::test::GuardedIn,
    moe::test::LayerPass, moe::test::run_pass, moe::test::same_bits, moe::test::TestSpace;

namespace {

// Enough work that threads share it.
constexpr GateFfnSizes sizes{.hidden = 40, .experts = 6, .expert = {.ffn = 33}};
constexpr index_t tokens = 130;

template <class RouterT, class CapacityT, class DispatcherT>
auto layer_of(RouterT router, CapacityT capacity, DispatcherT dispatcher, double coeff = 1e-1)
{
  return moe::Layer{router,
                    capacity,
                    dispatcher,
                    moe::Ffn<moe::SwiGlu>{},
                    moe::SwitchLoss{.coeff = coeff},
                    moe::RouterZLoss{.coeff = coeff}};
}
using Router = moe::SoftmaxTopK<2, moe::renormalized>;

constexpr bool on_host = std::is_same_v<TestSpace, Host>;

TestSpace own(int threads)
{
  return moe::test::test_space(Products::own, threads);
}
TestSpace default_space()
{
  return moe::test::test_space(Products::automatic, 0);
}
std::vector<int> thread_counts()
{
  return on_host ? std::vector<int>{1, 2, 3, 5} : std::vector<int>{1};
}

std::vector<index_t> shuffled(index_t n)
{
  std::vector<index_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(5));
  return order;
}

template <class T, class LayerT>
std::vector<T> evaluated(LayerT const& layer, TestSpace const& exec, Batch<T> const& b)
{
  BatchIn const in(exec, layer, b);
  GuardedIn<T, TestSpace> const y(exec, static_cast<index_t>(b.x.size()), T(1.f));
  layer.evaluate(exec, in.param_views(), in.input(), y.view(b.sizes.hidden));
  return y.values();
}

}  // namespace

using Elements = std::
    conditional_t<on_host, std::tuple<float, double, Half, BFloat16>, std::tuple<float, BFloat16>>;

TEST_CASE_TEMPLATE_DEFINE("dropless: the same bits always", T, dropless_bits)
{
  auto const batched = layer_of(Router{}, moe::Dropless{}, moe::BatchedDispatcher{});
  auto const b       = Batch<T>::make(batched, sizes, tokens, 1);

  SUBCASE("100 runs of a default Host, in a state that is used again and in fresh ones")
  {
    TestSpace const exec = default_space();
    auto saved           = batched.template make_saved<T>(exec, sizes, tokens);
    auto const first     = run_pass<T>(batched, exec, b);
    CHECK(first.losses[0] > 0);
    for (int run = 0; run < 100; ++run) {
      CAPTURE(run);
      REQUIRE(first == (run % 10 == 0 ? run_pass<T>(batched, exec, b)
                                      : run_pass<T>(batched, exec, b, saved)));
    }
    // Another batch between leaves nothing behind in the state.
    (void)run_pass<T>(batched, exec, Batch<T>::make(batched, sizes, tokens, 2), saved);
    CHECK(first == run_pass<T>(batched, exec, b, saved));
    CHECK(same_bits(evaluated(batched, exec, b), first.y));
  }
  SUBCASE("any number of threads, serial or batched")
  {
    auto const serial = layer_of(Router{}, moe::Dropless{}, moe::SerialDispatcher{});
    auto const one    = run_pass<T>(batched, own(1), b);
    for (int const threads : thread_counts()) {
      CAPTURE(threads);
      CHECK(one == run_pass<T>(batched, own(threads), b));
      CHECK(one == run_pass<T>(serial, own(threads), b));
      CHECK(same_bits(evaluated(serial, own(threads), b), one.y));
    }
  }
  // On Cuda the gate's part of dx is cuBLAS's, which may sum it in another order for other rows.
  SUBCASE("a row does not see its neighbours")
  {
    TestSpace const exec = own(2);
    auto const all       = run_pass<T>(batched, exec, b);
    // Another order of tokens is another order of results; sums over tokens are others.
    auto const order    = shuffled(tokens);
    auto const permuted = run_pass<T>(batched, exec, b.rows(order));
    CHECK(same_bits(permuted.y, b.rows_of(all.y, order)));
    if (on_host) { CHECK(same_bits(permuted.dx, b.rows_of(all.dx, order))); }
    CHECK(permuted.loads.tokens_per_expert == all.loads.tokens_per_expert);

    // A part of the batch. The balance loss alone knows of the others, so it is left out.
    auto const alone = layer_of(Router{}, moe::Dropless{}, moe::BatchedDispatcher{}, 0);
    auto const whole = run_pass<T>(alone, exec, b);
    CHECK(same_bits(whole.y, all.y));
    for (index_t const n : {1, 7, 64}) {
      CAPTURE(n);
      std::vector<index_t> const some(order.begin(), order.begin() + n);
      auto const part = run_pass<T>(alone, exec, b.rows(some));
      CHECK(same_bits(part.y, b.rows_of(whole.y, some)));
      if (on_host) { CHECK(same_bits(part.dx, b.rows_of(whole.dx, some))); }
    }
  }
}

TEST_CASE_TEMPLATE_APPLY(dropless_bits, Elements);

TEST_CASE("bounded: padded, compact and serial are the same bits")
{
  // 6 experts of 35 slots for 260 assignments: some drop, some slots stay empty.
  moe::DropByPosition const capacity{moe::CeilCapacity{.factor = 0.8}};
  auto const padded  = layer_of(Router{}, capacity, moe::BatchedDispatcher<moe::PaddedSchedule>{});
  auto const compact = layer_of(Router{}, capacity, moe::BatchedDispatcher<moe::BatchedSchedule>{});
  auto const serial  = layer_of(Router{}, capacity, moe::SerialDispatcher{});
  auto const b       = Batch<float>::make(padded, sizes, tokens, 3);
  auto const one     = run_pass<float>(serial, own(1), b);
  CHECK(one.loads.dropped.size() > 0);
  CHECK(*std::min_element(one.loads.kept_per_expert.begin(), one.loads.kept_per_expert.end()) < 35);
  for (int const threads : thread_counts()) {
    CAPTURE(threads);
    TestSpace const exec = own(threads);
    CHECK(one == run_pass<float>(padded, exec, b));
    CHECK(one == run_pass<float>(compact, exec, b));
    CHECK(one == run_pass<float>(serial, exec, b));
    CHECK(same_bits(evaluated(padded, exec, b), one.y));
  }
  TestSpace const exec = default_space();
  auto const first     = run_pass<float>(padded, exec, b);
  for (int run = 0; run < 100; ++run) {
    REQUIRE(first == run_pass<float>(padded, exec, b));
  }
}

TEST_CASE("noise is that of seed, step and the token's number")
{
  auto const layer = layer_of(moe::NoisyTopK<2>{}, moe::Dropless{}, moe::BatchedDispatcher{}, 0);
  TestSpace const exec = own(2);
  auto b               = Batch<float>::make(layer, sizes, tokens, 4);
  b.step               = {moe::StepState{.step = 7, .seed = 11}};
  b.first_token        = 1000;
  auto const all       = run_pass<float>(layer, exec, b);
  CHECK(all == run_pass<float>(layer, own(3), b));

  SUBCASE("another step, seed or place draws others")
  {
    for (int which = 0; which < 3; ++which) {
      CAPTURE(which);
      auto other = b;
      if (which == 0) { other.step[0].step = 8; }
      if (which == 1) { other.step[0].seed = 12; }
      if (which == 2) { other.first_token = 1001; }
      CHECK(!same_bits(run_pass<float>(layer, exec, other).y, all.y));
    }
  }
  SUBCASE("a batch in two parts is routed as the whole")
  {
    index_t const cut = 37;
    for (int part = 0; part < 2; ++part) {
      CAPTURE(part);
      std::vector<index_t> some(static_cast<std::size_t>(part == 0 ? cut : tokens - cut));
      std::iota(some.begin(), some.end(), part == 0 ? 0 : cut);
      auto half        = b.rows(some);
      half.first_token = b.first_token + some[0];
      auto const run   = run_pass<float>(layer, exec, half);
      CHECK(same_bits(run.y, b.rows_of(all.y, some)));
      if (on_host) { CHECK(same_bits(run.dx, b.rows_of(all.dx, some))); }
    }
  }
  SUBCASE("evaluation draws none")
  {
    auto other         = b;
    other.step[0].step = 99;
    CHECK(same_bits(evaluated(layer, exec, b), evaluated(layer, exec, other)));
    CHECK(!same_bits(evaluated(layer, exec, b), all.y));
  }
}

TEST_CASE("experts in another order have their gradients in that order")
{
  using Sharp                = std::conditional_t<on_host, double, float>;
  constexpr double sharpness = on_host ? 1e-13 : 2e-5;
  using Layer      = decltype(layer_of(Router{}, moe::Dropless{}, moe::BatchedDispatcher{}));
  auto const layer = layer_of(Router{}, moe::Dropless{}, moe::BatchedDispatcher{});
  auto b           = Batch<Sharp>::make(layer, sizes, tokens, 6);
  for (std::size_t i = 0; i < b.x.size(); ++i) {  // no ties, which the smaller expert wins
    b.x[i] += static_cast<Sharp>(1e-3 * std::sin(static_cast<double>(i)));
  }
  std::vector<index_t> const order{4, 2, 0, 5, 1, 3};
  auto permuted     = b;
  auto const moved  = moe::test::params_at<Layer, Sharp>(permuted.params.data(), sizes);
  auto const values = b.param_views(layer);
  auto const copy   = [&](auto const& from, auto const& to) {
    index_t const each = from.size() / sizes.experts;
    for (index_t e = 0; e < sizes.experts; ++e) {
      std::copy_n(from.data_handle() + order[static_cast<std::size_t>(e)] * each,
                  each,
                  to.data_handle() + e * each);
    }
  };
  auto const copy_all = [&](auto const& from, auto const& to) {
    copy(from.gate.w, to.gate.w);
    copy(from.experts.w_in, to.experts.w_in);
    copy(from.experts.w_out, to.experts.w_out);
  };
  copy_all(values, moved);

  TestSpace const exec = default_space();
  auto one             = run_pass<Sharp>(layer, exec, b);
  auto const other     = run_pass<Sharp>(layer, exec, permuted);
  auto const off       = [](std::vector<Sharp> const& a, std::vector<Sharp> const& from) {
    auto const numbers = [](std::vector<Sharp> const& v) {
      return moe::test::numbers_of(v.data(), static_cast<index_t>(v.size()));
    };
    return moe::test::distance(numbers(a), numbers(from));
  };
  // The softmax's sum is taken in another order, so bits differ.
  CHECK(off(other.y, one.y) < sharpness);
  CHECK(off(other.dx, one.dx) < sharpness);
  CHECK(off(other.losses, one.losses) < sharpness);
  auto expected = one.grads;
  copy_all(moe::test::params_at<Layer, Sharp>(one.grads.data(), sizes),
           moe::test::params_at<Layer, Sharp>(expected.data(), sizes));
  CHECK(off(other.grads, expected) < sharpness);
  CHECK(moe::test::largest_of(
            moe::test::numbers_of(expected.data(), static_cast<index_t>(expected.size()))) > 1);
}
