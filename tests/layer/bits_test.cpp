// The same bits, run after run; and with the library's own products for any number of threads, any
// dispatcher and any neighbours in the batch.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "support/layer_batch.hpp"

using moe::BFloat16, moe::Half, moe::Host, moe::index_t, moe::Products;
using moe::test::Batch, moe::test::GateFfnSizes, moe::test::LayerPass, moe::test::run_pass,
    moe::test::same_bits;

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

Host own(int threads)
{
  return Host{{.threads = threads, .products = Products::own}};
}

std::vector<index_t> shuffled(index_t n)
{
  std::vector<index_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(5));
  return order;
}

template <class T, class LayerT>
std::vector<T> evaluated(LayerT const& layer, Host const& exec, Batch<T> const& b)
{
  std::vector<T> y(b.x.size(), T(1.f));
  layer.evaluate(exec,
                 b.param_views(layer),
                 b.input(),
                 moe::View<T, 2, Host>(y.data(), b.tokens, b.sizes.hidden));
  return y;
}

}  // namespace

TEST_CASE_TEMPLATE("dropless: the same bits always", T, float, double, Half, BFloat16)
{
  auto const batched = layer_of(Router{}, moe::Dropless{}, moe::BatchedDispatcher{});
  auto const b       = Batch<T>::make(batched, sizes, tokens, 1);

  SUBCASE("100 runs of a default Host, in a state that is used again and in fresh ones")
  {
    Host const exec;
    auto saved       = batched.template make_saved<T>(exec, sizes, tokens);
    auto const first = run_pass<T>(batched, exec, b);
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
    for (int const threads : {1, 2, 3, 5}) {
      CAPTURE(threads);
      CHECK(one == run_pass<T>(batched, own(threads), b));
      CHECK(one == run_pass<T>(serial, own(threads), b));
      CHECK(same_bits(evaluated(serial, own(threads), b), one.y));
    }
  }
  SUBCASE("a row does not see its neighbours")
  {
    Host const exec = own(2);
    auto const all  = run_pass<T>(batched, exec, b);
    // Another order of tokens is another order of results; sums over tokens are others.
    auto const order    = shuffled(tokens);
    auto const permuted = run_pass<T>(batched, exec, b.rows(order));
    CHECK(same_bits(permuted.y, b.rows_of(all.y, order)));
    CHECK(same_bits(permuted.dx, b.rows_of(all.dx, order)));
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
      CHECK(same_bits(part.dx, b.rows_of(whole.dx, some)));
    }
  }
}

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
  for (int const threads : {1, 2, 3, 5}) {
    CAPTURE(threads);
    Host const exec = own(threads);
    CHECK(one == run_pass<float>(padded, exec, b));
    CHECK(one == run_pass<float>(compact, exec, b));
    CHECK(one == run_pass<float>(serial, exec, b));
    CHECK(same_bits(evaluated(padded, exec, b), one.y));
  }
  Host const exec;
  auto const first = run_pass<float>(padded, exec, b);
  for (int run = 0; run < 100; ++run) {
    REQUIRE(first == run_pass<float>(padded, exec, b));
  }
}

TEST_CASE("noise is that of seed, step and the token's number")
{
  auto const layer = layer_of(moe::NoisyTopK<2>{}, moe::Dropless{}, moe::BatchedDispatcher{}, 0);
  Host const exec  = own(2);
  auto b           = Batch<float>::make(layer, sizes, tokens, 4);
  b.step           = {moe::StepState{.step = 7, .seed = 11}};
  b.first_token    = 1000;
  auto const all   = run_pass<float>(layer, exec, b);
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
      CHECK(same_bits(run.dx, b.rows_of(all.dx, some)));
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
  using Layer      = decltype(layer_of(Router{}, moe::Dropless{}, moe::BatchedDispatcher{}));
  auto const layer = layer_of(Router{}, moe::Dropless{}, moe::BatchedDispatcher{});
  auto b           = Batch<double>::make(layer, sizes, tokens, 6);
  for (std::size_t i = 0; i < b.x.size(); ++i) {  // no ties, which the smaller expert wins
    b.x[i] += 1e-3 * std::sin(static_cast<double>(i));
  }
  std::vector<index_t> const order{4, 2, 0, 5, 1, 3};
  auto permuted     = b;
  auto const moved  = moe::test::params_at<Layer, double>(permuted.params.data(), sizes);
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

  Host const exec;
  auto one         = run_pass<double>(layer, exec, b);
  auto const other = run_pass<double>(layer, exec, permuted);
  // The softmax's sum is taken in another order, so bits differ.
  CHECK(moe::test::distance(other.y, one.y) < 1e-13);
  CHECK(moe::test::distance(other.dx, one.dx) < 1e-13);
  CHECK(moe::test::distance(other.losses, one.losses) < 1e-13);
  auto expected = one.grads;
  copy_all(moe::test::params_at<Layer, double>(one.grads.data(), sizes),
           moe::test::params_at<Layer, double>(expected.data(), sizes));
  CHECK(moe::test::distance(other.grads, expected) < 1e-13);
  CHECK(moe::test::largest_of(expected) > 1);
}
