// The bias update, and that a bias moves the selection and nothing else.
#include <moe/exec/host.hpp>
#include <moe/route/scored_router.hpp>
#include <moe/route/selection_bias.hpp>
#include <support/route_check.hpp>

using namespace moe;
using moe::test::as_list, moe::test::as_row;

using RenormalizedSigmoid = SigmoidTopK<3, renormalized>;

TEST_CASE("a bias moves by exactly the rate: up below the mean load, down above it, not at it")
{
  Host const exec{{.threads = 2}};
  std::vector<Id> const count{0, 10, 5, 7, 3};  // mean 5
  std::vector<float> bias{0, 0.5f, -1, 0.25f, 2};
  update_selection_bias(exec, as_list(count), as_list(bias), 0.125f);
  CHECK(bias == std::vector<float>{0.125f, 0.375f, -1, 0.125f, 2.125f});
  update_selection_bias(exec, as_list(count), as_list(bias));
  CHECK(bias[0] == 0.125f + 1e-3f);
  CHECK(bias[1] == 0.375f - 1e-3f);
}

TEST_CASE("recentred: the changes' mean is taken off them")
{
  Host const exec{{.threads = 1}};
  std::vector<Id> const count{9, 1, 1, 1};  // mean 3: signs -1, 1, 1, 1, whose mean is 1/2
  std::vector<float> bias(4, 1.f);
  update_selection_bias(exec, as_list(count), as_list(bias), 0.5f, Recentre::yes);
  CHECK(bias == std::vector<float>{0.25f, 1.25f, 1.25f, 1.25f});
}

TEST_CASE("the mean load is compared exactly, however large the counts")
{
  Host const exec{{.threads = 1}};
  Id const most = std::numeric_limits<Id>::max();
  std::vector<Id> const count{most, most - 1, most - 2};
  std::vector<float> bias(3, 0.f);
  update_selection_bias(exec, as_list(count), as_list(bias), 1);
  CHECK(bias == std::vector<float>{-1, 0, 1});
  std::vector<Id> const none(3, 0);
  update_selection_bias(exec, as_list(none), as_list(bias), 1, Recentre::yes);
  CHECK(bias == std::vector<float>{-1, 0, 1});
}

TEST_CASE("what cannot be an update is refused, and the bias left as it was")
{
  Host const exec{{.threads = 1}};
  std::vector<Id> const count{1, 2};
  std::vector<float> bias{1, 2, 3};
  CHECK_THROWS_AS(update_selection_bias(exec, as_list(count), as_list(bias)), ShapeError);
  std::vector<float> two{1, 2};
  float const nan = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(update_selection_bias(exec, as_list(count), as_list(two), nan), ValueError);
  CHECK_THROWS_AS(update_selection_bias(exec, as_list(count), View<float, 1, Host>(nullptr, 2)),
                  ValueError);
  CHECK_THROWS_AS(update_selection_bias(exec, View<Id const, 1, Host>(nullptr, 2), as_list(two)),
                  ValueError);
  CHECK(two == std::vector<float>{1, 2});
  update_selection_bias(exec, View<Id const, 1, Host>{}, View<float, 1, Host>{});  // E = 0
}

TEST_CASE_TEMPLATE("weights and gradients are those of the unbiased scores",
                   RouterT,
                   SoftmaxTopK<3>,
                   SigmoidTopK<3>,
                   RenormalizedSigmoid,
                   SqrtSoftplusTopK<3>)
{
  // All eight chosen scores would be other ones without the bias: it picks 1, 6, 7.
  std::vector<double> const z{2, -1, 1.5, 1, 0, 1.25, -2, -1.5};
  std::vector<float> bias{0, 9, 0, 0, 0, 0, 8, 7};
  RouterT biased;
  biased.bias  = as_list(bias);
  auto const c = biased.route(SerialTeam{}, RowContext{}, as_row(z));
  CHECK(c.expert == Array<Id, 3>{{1, 6, 7}});

  // A bias that changes none of the order changes no bit.
  for (float& b : bias) {
    b += 100;
  }
  CHECK(biased.route(SerialTeam{}, RowContext{}, as_row(z)).weight == c.weight);
  bias.assign(8, 0.f);
  auto const zero  = biased.route(SerialTeam{}, RowContext{}, as_row(z));
  auto const plain = RouterT{}.route(SerialTeam{}, RowContext{}, as_row(z));
  CHECK(zero.expert == plain.expert);
  CHECK(zero.weight == plain.weight);
}

TEST_CASE("the update balances a router step by step")
{
  Host const exec{{.threads = 1}};
  index_t const T = 256, E = 8;
  auto z = test::uniform_numbers(static_cast<std::size_t>(T * E), 3, -1, 1);
  for (std::size_t t = 0; t < static_cast<std::size_t>(T); ++t) {
    z[t * 8] += 2;  // everyone's favourite
  }
  std::vector<float> bias(8, 0.f);
  SigmoidTopK<2> router{.bias = as_list(std::as_const(bias))};
  auto const step = [&] {
    std::vector<Id> count(8, 0);
    for (index_t t = 0; t < T; ++t) {
      auto const c = router.route(SerialTeam{}, RowContext{}, Row<double const>(&z[0] + t * E, E));
      ++count[static_cast<std::size_t>(c.expert[0])];
      ++count[static_cast<std::size_t>(c.expert[1])];
    }
    update_selection_bias(exec, as_list(std::as_const(count)), as_list(bias), 1e-2f);
    return *std::max_element(count.begin(), count.end());
  };
  CHECK(step() > 240);  // of a mean of 64
  for (int i = 0; i < 150; ++i) {
    step();
  }
  CHECK(step() < 85);
}
