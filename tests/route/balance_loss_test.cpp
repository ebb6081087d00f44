// Losses: value and gradient against naive loops, for every published form.
#include <support/loss_check.hpp>

using namespace moe;
using moe::test::check_gradient, moe::test::evaluate_loss, moe::test::naive_z_loss,
    moe::test::NaiveBalance, moe::test::random_batch, moe::test::RoutedBatch;

namespace {

// The loss is the naive one; its gradient too, with the loads held.
template <class LossT, class NaiveF>
void check_loss(LossT loss, RoutedBatch const& b, NaiveF const& naive)
{
  loss.coeff          = 0.7;
  auto const result   = evaluate_loss<double>(loss, b);
  auto const in_float = evaluate_loss<float>(loss, b);
  double const value  = naive(b, loss.coeff);
  CHECK(std::abs(result.value - value) < 1e-13 * (1 + value));
  CHECK(std::abs(static_cast<double>(in_float.value) - value) < 1e-5 * value);
  check_gradient(
      [&](std::vector<double> const& z) {
        auto moved   = b;
        moved.logits = z;
        return naive(moved, loss.coeff);
      },
      b.logits,
      result.d_logits);
}

// Every batch that a loss should bear: masked, in sequences, one of them all masked, wide rows.
template <class LossT, class NaiveF>
void check_loss(LossT const& loss, NaiveF const& naive_of)
{
  for (std::size_t const top_k : {1u, 2u, 5u}) {
    CAPTURE(top_k);
    std::size_t const E = 7;
    auto const naive    = naive_of(static_cast<double>(E), static_cast<double>(top_k));
    check_loss(loss, random_batch(1, E, top_k), naive);
    check_loss(loss, random_batch(12, E, top_k), naive);
    check_loss(loss, random_batch(12, E, top_k, 3), naive);
    check_loss(loss, random_batch(5, E, top_k, 5), naive);

    auto masked = random_batch(12, E, top_k, 3);
    masked.set_mask({1, 0, 1, 1, 0, 0, 0, 0, 1, 2, 255, 0});
    check_loss(loss, masked, naive);

    RoutedBatch wide = random_batch(4, E, top_k, 2);  // more columns than experts: noisy top-k
    wide.columns     = 2 * E;
    wide.logits      = test::uniform_numbers(4 * wide.columns, 5, -2, 2);
    check_loss(loss, wide, naive);
  }
}

}  // namespace

TEST_CASE("Switch: every choice counts, 1 at balance")
{
  check_loss(SwitchLoss{}, [](double E, double K) { return NaiveBalance{E / K}; });
}
TEST_CASE("GShard: first choices count")
{
  check_loss(GShardLoss{}, [](double E, double) { return NaiveBalance{E, true}; });
}
TEST_CASE("GShard as printed: the mean over experts")
{
  check_loss(GShardPaperLoss{}, [](double E, double) { return NaiveBalance{1 / E, true}; });
}
TEST_CASE("Mixtral: no division by K")
{
  check_loss(MixtralLoss{}, [](double E, double) { return NaiveBalance{E}; });
}
TEST_CASE("MiniMind over the batch, and over sequences")
{
  check_loss(MiniMindBatchLoss{}, [](double E, double K) { return NaiveBalance{E / K}; });
  check_loss(MiniMindSequenceLoss{},
             [](double E, double K) { return NaiveBalance{E / K, false, true}; });
}
TEST_CASE("DeepSeek: over sequences, with normalised sigmoids")
{
  check_loss(DeepSeekSequenceLoss{},
             [](double E, double K) { return NaiveBalance{E / K, false, true, true}; });
}
TEST_CASE("router z-loss")
{
  check_loss(RouterZLoss{}, [](double, double) {
    return [](RoutedBatch const& b, double coeff) { return naive_z_loss(b, coeff); };
  });
}

TEST_CASE("the value at perfect balance says the normalisation: 1, K, 1 / E^2")
{
  std::size_t const E = 8, K = 2;
  auto b = random_batch(E, E, K, 2);
  std::fill(b.logits.begin(), b.logits.end(), 0.3);
  for (std::size_t t = 0; t < E; ++t) {
    b.expert[t * K]     = static_cast<Id>(t);
    b.expert[t * K + 1] = static_cast<Id>((t + 1) % E);
  }
  auto const value = [&](auto loss) {
    loss.coeff = 1;
    return evaluate_loss<double>(loss, b).value;
  };
  CHECK(value(SwitchLoss{}) == doctest::Approx(1).epsilon(1e-14));
  CHECK(value(GShardLoss{}) == doctest::Approx(1).epsilon(1e-14));
  CHECK(value(MiniMindBatchLoss{}) == doctest::Approx(1).epsilon(1e-14));
  CHECK(value(MiniMindSequenceLoss{}) == doctest::Approx(1).epsilon(1e-14));
  CHECK(value(DeepSeekSequenceLoss{}) == doctest::Approx(1).epsilon(1e-14));
  CHECK(value(MixtralLoss{}) == doctest::Approx(2).epsilon(1e-14));
  CHECK(value(GShardPaperLoss{}) == doctest::Approx(1. / 64).epsilon(1e-14));
}

TEST_CASE("all tokens to two of eight experts: 4, and 8 where K is not divided out")
{
  auto b = random_batch(6, 8, 2);
  for (std::size_t t = 0; t < 6; ++t) {
    for (std::size_t e = 0; e < 8; ++e) {
      b.logits[t * 8 + e] = e < 2 ? 0 : -200;
    }
    b.expert[t * 2]     = 0;
    b.expert[t * 2 + 1] = 1;
  }
  CHECK(evaluate_loss<double>(SwitchLoss{.coeff = 1}, b).value == doctest::Approx(4));
  CHECK(evaluate_loss<double>(GShardLoss{.coeff = 1}, b).value == doctest::Approx(4));
  CHECK(evaluate_loss<double>(MixtralLoss{.coeff = 1}, b).value == doctest::Approx(8));
}

TEST_CASE("on a skewed batch: Mixtral's is K times Switch's, first choices tell something else")
{
  for (std::size_t const top_k : {2u, 3u}) {
    auto const b          = random_batch(40, 8, top_k);
    double const switched = evaluate_loss<double>(SwitchLoss{.coeff = 1}, b).value;
    double const mixtral  = evaluate_loss<double>(MixtralLoss{.coeff = 1}, b).value;
    double const gshard   = evaluate_loss<double>(GShardLoss{.coeff = 1}, b).value;
    double const paper    = evaluate_loss<double>(GShardPaperLoss{.coeff = 1}, b).value;
    double const sequence = evaluate_loss<double>(MiniMindSequenceLoss{.coeff = 1}, b).value;
    CHECK(mixtral == doctest::Approx(static_cast<double>(top_k) * switched).epsilon(1e-13));
    CHECK(gshard == doctest::Approx(64 * paper).epsilon(1e-13));
    CHECK(std::abs(gshard - switched) > 1e-2);
    CHECK(sequence == doctest::Approx(switched).epsilon(1e-13));  // one sequence is the batch
  }
}

TEST_CASE("loss gradients of a softmax sum to 0 over experts; the z-loss's is 2 lse p")
{
  auto const b    = random_batch(9, 6, 2, 3);
  auto const sums = [&](std::vector<double> const& d) {
    double largest = 0;
    for (std::size_t t = 0; t < b.tokens; ++t) {
      auto const at = d.begin() + static_cast<std::ptrdiff_t>(t * 6);
      largest       = std::max(largest, std::abs(std::accumulate(at, at + 6, 0.0)));
    }
    return largest;
  };
  CHECK(sums(evaluate_loss<double>(SwitchLoss{.coeff = 1}, b).d_logits) < 1e-15);
  CHECK(sums(evaluate_loss<double>(GShardLoss{.coeff = 1}, b).d_logits) < 1e-15);
  CHECK(sums(evaluate_loss<double>(MiniMindSequenceLoss{.coeff = 1}, b).d_logits) < 1e-15);
  CHECK(sums(evaluate_loss<double>(DeepSeekSequenceLoss{.coeff = 1}, b).d_logits) > 1e-4);

  auto const z = evaluate_loss<double>(RouterZLoss{.coeff = 3}, b);
  for (std::size_t t = 0; t < b.tokens; ++t) {
    auto const row = b.row(t);
    auto const p   = test::softmax_of(row);
    double sum     = 0;
    for (double const x : row) {
      sum += std::exp(x);
    }
    for (std::size_t e = 0; e < 6; ++e) {
      CHECK(z.d_logits[t * 6 + e] == doctest::Approx(3 * 2 * std::log(sum) * p[e] / 9));
    }
  }
}

TEST_CASE("columns past the experts', masked tokens and empty experts")
{
  RoutedBatch b = random_batch(6, 5, 2, 2);
  b.columns     = 10;
  b.logits      = test::uniform_numbers(60, 5, -2, 2);
  b.set_mask({1, 0, 1, 1, 0, 1});
  auto const check = [&](auto const& loss) {
    auto const d = evaluate_loss<double>(loss, b).d_logits;
    for (std::size_t t = 0; t < 6; ++t) {
      for (std::size_t c = 0; c < 10; ++c) {
        CHECK((d[t * 10 + c] != 0) == (b.live(t) && c < 5));  // expert 4 is one without a token
      }
    }
  };
  check(SwitchLoss{});
  check(DeepSeekSequenceLoss{});
  check(RouterZLoss{});
}

TEST_CASE("no token, all tokens masked, a single expert")
{
  auto const check = [](auto loss) {
    loss.coeff = 1;
    CHECK(evaluate_loss<double>(loss, random_batch(0, 3, 2)).value == 0);
    auto masked = random_batch(4, 3, 2, 2);
    masked.set_mask({0, 0, 0, 0});
    auto const nothing = evaluate_loss<double>(loss, masked);
    CHECK(nothing.value == 0);
    CHECK(std::count(nothing.d_logits.begin(), nothing.d_logits.end(), 0.0) == 12);
    return evaluate_loss<double>(loss, random_batch(4, 1, 1, 2));
  };
  auto const balance = [&](auto const& loss) {
    auto const one = check(loss);
    CHECK(one.value == doctest::Approx(1).epsilon(1e-14));
    for (double const d : one.d_logits) {
      CHECK(std::abs(d) < 1e-15);
    }
  };
  balance(SwitchLoss{});
  balance(GShardLoss{});
  balance(GShardPaperLoss{});
  balance(MixtralLoss{});
  balance(MiniMindSequenceLoss{});
  balance(DeepSeekSequenceLoss{});
  auto const b = random_batch(4, 1, 1, 2);
  auto const z = check(RouterZLoss{});
  for (std::size_t t = 0; t < 4; ++t) {
    CHECK(z.d_logits[t] == doctest::Approx(2 * b.logits[t] / 4));
  }
}
