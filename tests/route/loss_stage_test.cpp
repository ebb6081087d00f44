// Losses over all tokens: ranks, the loss scale, threads, and input that is no number.
#include <support/loss_check.hpp>

using namespace moe;
using moe::test::evaluate_loss, moe::test::infinite, moe::test::not_a_number,
    moe::test::random_batch;

namespace {

// Another rank that counts the same as this one.
struct Twins {
  template <class T>
  void all_reduce_sum(Host const&, View<T, 1, Host> x) const
  {
    for (index_t i = 0; i < x.extent(0); ++i) {
      x(i) = static_cast<T>(2 * x(i));
    }
  }
};

double largest_difference(std::vector<double> const& a, std::vector<double> const& b, double factor)
{
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a[i] - factor * b[i]));
  }
  return largest;
}

}  // namespace

TEST_CASE("over the batch of all ranks: each has its tokens' part, and they sum to the whole")
{
  auto const b     = random_batch(6, 5, 2, 3);
  auto const twice = [&](auto const& loss, double factor) {
    auto const alone = evaluate_loss<double>(loss, b);
    auto const twin  = evaluate_loss<double>(loss, b, 1, Twins{});
    CHECK(twin.value == doctest::Approx(factor * alone.value).epsilon(1e-14));
    CHECK(largest_difference(twin.d_logits, alone.d_logits, factor) < 1e-15);
  };
  twice(SwitchLoss{}, 0.5);
  twice(GShardLoss{}, 0.5);
  twice(RouterZLoss{}, 0.5);
  twice(MiniMindSequenceLoss{}, 0.5);  // a sequence is on one rank, their mean over all
}

TEST_CASE("the loss scale scales the gradient and not the value")
{
  auto const b    = random_batch(6, 5, 2, 3);
  auto const same = [&](auto const& loss) {
    auto const one  = evaluate_loss<double>(loss, b);
    auto const many = evaluate_loss<double>(loss, b, 1024);
    CHECK(one.value == many.value);
    CHECK(largest_difference(many.d_logits, one.d_logits, 1024) < 1e-13);
  };
  same(SwitchLoss{});
  same(DeepSeekSequenceLoss{});
  same(RouterZLoss{});
}

TEST_CASE("losses are linear in their coefficient")
{
  auto const b = random_batch(6, 5, 2, 3);
  auto const a = evaluate_loss<double>(SwitchLoss{.coeff = 1}, b);
  auto const c = evaluate_loss<double>(SwitchLoss{.coeff = 4}, b);
  CHECK(c.value == 4 * a.value);
  CHECK(largest_difference(c.d_logits, a.d_logits, 4) < 1e-15);
  CHECK(evaluate_loss<double>(SwitchLoss{.coeff = 0}, b).value == 0);
}

TEST_CASE("logits that are not finite: values stay finite, no gradient flows into them")
{
  auto b                         = random_batch(9, 4, 2, 3);
  std::vector<double> const rows = {not_a_number, 1,         2,         -1,            //
                                    infinite,     1,         0,         1,             //
                                    -infinite,    0.5,       1,         -1,            //
                                    infinite,     infinite,  0,         -infinite,     //
                                    not_a_number, -infinite, -infinite, not_a_number,  //
                                    1e300,        -1e300,    0,         5e-324};
  std::copy(rows.begin(), rows.end(), b.logits.begin());
  auto const check = [&](auto const& loss) {
    auto const result = evaluate_loss<double>(loss, b);
    CHECK(std::isfinite(result.value));
    for (std::size_t i = 0; i < b.logits.size(); ++i) {
      CAPTURE(i);
      CHECK(std::isfinite(result.d_logits[i]));
      if (!std::isfinite(b.logits[i])) { CHECK(result.d_logits[i] == 0); }
    }
    return result;
  };
  check(SwitchLoss{});
  check(GShardLoss{});
  check(MiniMindSequenceLoss{});
  check(DeepSeekSequenceLoss{});

  std::fill_n(b.logits.begin() + 20, 4, 0.0);  // 1e300 squared is no double
  auto const z = check(RouterZLoss{.coeff = 1});
  double sum   = 0;  // rows with an infinite maximum, or nothing finite, count 0
  for (std::size_t t = 0; t < 9; ++t) {
    if (t == 1 || t == 3 || t == 4) { continue; }
    double exps = 0;
    for (double const x : b.row(t)) {
      exps += std::isfinite(x) ? std::exp(x) : 0;
    }
    sum += std::log(exps) * std::log(exps);
  }
  CHECK(z.value == doctest::Approx(sum / 9).epsilon(1e-13));
}

TEST_CASE("a row without a finite logit counts as uniform in the load balancing loss")
{
  auto b = random_batch(4, 4, 1);
  std::fill(b.logits.begin(), b.logits.end(), -infinite);
  auto const result = evaluate_loss<double>(SwitchLoss{.coeff = 1}, b);
  CHECK(result.value == doctest::Approx(1).epsilon(1e-14));
}

TEST_CASE("assignments that go nowhere count in no load")
{
  auto b        = random_batch(3, 4, 2);
  auto const at = [&](std::vector<Id> expert) {
    b.expert = std::move(expert);
    return evaluate_loss<double>(SwitchLoss{.coeff = 1}, b).value;
  };
  // -1, and an id that named no expert: -2. What is left is linear in the assignments.
  double const all = at({0, 1, 2, 1, 3, 0});
  CHECK(at({0, -1, 2, -2, 3, -1}) + at({-1, 1, -2, 1, -1, 0}) ==
        doctest::Approx(all).epsilon(1e-14));
  CHECK(at({-1, -1, -2, -2, -1, -1}) == 0);
}

TEST_CASE("coefficients that are none are refused")
{
  Check const check{"moe::Layer"};
  auto const refuses = [&](auto loss) {
    loss.check(check);
    for (double const coeff : {not_a_number, infinite, -1e-9}) {
      loss.coeff = coeff;
      CHECK_THROWS_AS(loss.check(check), ValueError);
    }
  };
  refuses(SwitchLoss{});
  refuses(RouterZLoss{});
}
