// Row maths on several lanes is the row maths on one: the same ids, and numbers within rounding.
#include <moe/exec/host.hpp>
#include <moe/plan/routing_plan.hpp>
#include <moe/route/balance_loss.hpp>
#include <moe/route/expert_choice_router.hpp>
#include <moe/route/load_statistics.hpp>
#include <moe/route/noisy_top_k_router.hpp>
#include <moe/route/renormalize_kept.hpp>
#include <moe/route/row_maximum.hpp>
#include <moe/route/scored_router.hpp>
#include <moe/route/selection_bias.hpp>
#include <moe/route/top_k_softmax_router.hpp>
#include <support/lane_team.hpp>
#include <support/route_check.hpp>

using namespace moe;
using moe::test::as_list, moe::test::as_matrix, moe::test::as_row, moe::test::infinite,
    moe::test::Lanes, moe::test::not_a_number;

namespace {

constexpr int lane_count = 4;

std::vector<std::vector<double>> rows_of(std::size_t n)
{
  std::vector<std::vector<double>> rows{
      test::spaced_logits(n, 1), std::vector<double>(n, 0.5), std::vector<double>(n, not_a_number)};
  rows.push_back(test::spaced_logits(n, 2));
  rows.back()[n / 2] = infinite;
  rows.push_back(test::spaced_logits(n, 3));
  for (std::size_t i = 0; i < n; i += 2) {
    rows.back()[i] = i % 3 == 0 ? not_a_number : -infinite;
  }
  return rows;
}

void check_close(std::vector<double> const& a, std::vector<double> const& b)
{
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(a[i] - b[i]) <= 1e-14 * (1 + std::abs(b[i])));
  }
}

// Every lane gets the same choice, and together they write each column of d_logits once.
template <RowRouter RouterT>
void check_lanes(RouterT const& router, std::size_t columns)
{
  constexpr int K = RouterT::top_k;
  Lanes lanes(lane_count);
  RowContext const ctx{.token = 3, .step = {.step = 1, .seed = 2}};
  for (auto const& z : rows_of(columns)) {
    auto const one = router.route(SerialTeam{}, ctx, as_row(z));
    Array<double, K> u{};
    for (int k = 0; k < K; ++k) {
      u[k] = 1 - 0.7 * k;
    }
    std::vector<double> d_one(columns, 0.5), d_many(columns, 0.5);
    router.route_backward(SerialTeam{}, ctx, as_row(z), one, u, as_row(d_one));
    std::vector<Choice<K, double>> many(lane_count);
    lanes.run([&](auto team) {
      auto const c                                = router.route(team, ctx, as_row(z));
      many[static_cast<std::size_t>(team.lane())] = c;
      router.route_backward(team, ctx, as_row(z), c, u, as_row(d_many));
    });
    for (auto const& c : many) {
      CHECK(c.expert == one.expert);
      CHECK(c.weight == many[0].weight);
      check_close({c.weight.begin(), c.weight.end()}, {one.weight.begin(), one.weight.end()});
    }
    check_close(d_many, d_one);
  }
}

// A functor over (team, row) on one lane and on several: `state` is what it writes.
template <class MakeF>
void check_functor(index_t rows, MakeF const& make, std::vector<double> const& state)
{
  auto one = state, many = state;
  Lanes lanes(lane_count);
  for (index_t i = 0; i < rows; ++i) {
    make(one)(SerialTeam{}, i);
    lanes.run([&](auto team) { make(many)(team, i); });
  }
  check_close(many, one);
  CHECK(one != state);
}

}  // namespace

TEST_CASE("a row's softmax and its logarithm")
{
  Lanes lanes(lane_count);
  for (std::size_t const n : {1u, 2u, 3u, 4u, 5u, 64u, 129u}) {
    for (auto const& z : rows_of(n)) {
      auto const one = row_softmax(SerialTeam{}, as_row(z));
      std::vector<RowSoftmax<double>> many(lane_count);
      lanes.run([&](auto team) {
        many[static_cast<std::size_t>(team.lane())] = row_softmax(team, as_row(z));
      });
      for (auto const& s : many) {
        CHECK(s.maximum == one.maximum);
        CHECK(s.sum == doctest::Approx(one.sum).epsilon(1e-14));
        CHECK(s.sum == many[0].sum);
        CHECK(s.log_sum_exp() == doctest::Approx(log_sum_exp(SerialTeam{}, as_row(z))));
      }
    }
  }
}

TEST_CASE("a column's owner is the lane that strides over it")
{
  for (int size = 1; size <= 5; ++size) {
    Lanes lanes(size);
    for (int lane = 0; lane < size; ++lane) {
      Lanes::LaneTeam const team(lanes, lane);
      std::vector<bool> strides(23);
      for (std::size_t e = static_cast<std::size_t>(lane); e < 23;
           e += static_cast<std::size_t>(size)) {
        strides[e] = true;
      }
      for (Id e = 0; e < 23; ++e) {
        CHECK(detail::owns_column(team, e) == strides[static_cast<std::size_t>(e)]);
      }
    }
  }
}

TEST_CASE("routers")
{
  auto const wide = test::uniform_numbers(33, 5, -0.5, 0.5);
  std::vector<float> const bias(wide.begin(), wide.end());
  check_lanes(SwitchRouter{}, 5);
  check_lanes(SoftmaxTopK<3>{.scale = 16}, 3);  // a lane without a column
  check_lanes(SoftmaxTopK<4, lp_normalized<2>>{.bias = as_list(bias)}, 33);
  check_lanes(SigmoidTopK<8, renormalized>{}, 64);
  check_lanes(SqrtSoftplusTopK<5, renormalized>{.bias = as_list(bias)}, 33);
  check_lanes(TopKSoftmax<32>{}, 33);
  check_lanes(NoisyTopK<4>{}, 2 * 17);
}

TEST_CASE("groups, fewer than lanes and more")
{
  auto const wide = test::uniform_numbers(24, 6, -0.5, 0.5);
  std::vector<float> const bias(wide.begin(), wide.end());
  SigmoidTopK<4, renormalized, group_limited<top2_sum>> few{.bias = as_list(bias)};
  few.group = {.groups = 3, .kept = 2};
  check_lanes(few, 24);
  SoftmaxTopK<3, unnormalized, group_limited<group_maximum, zero_hf_compat>> many{
      .bias = as_list(bias)};
  many.group = {.groups = 12, .kept = 5};
  check_lanes(many, 24);
  SigmoidTopK<6, renormalized, group_limited<top_k_share_sum>> share{};
  share.group = {.groups = 6, .kept = 3};
  check_lanes(share, 24);
}

TEST_CASE_TEMPLATE("losses", LossT, SwitchLoss, DeepSeekSequenceLoss, RouterZLoss)
{
  LossT const loss{.coeff = 0.5};
  Lanes lanes(lane_count);
  auto const load = test::uniform_numbers(7, 4, 0, 9);
  for (auto const& z : rows_of(7)) {
    LossRow<double> const in{as_row(z), as_row(load), 11, 2, 3};
    double const one = loss.row_loss(SerialTeam{}, in);
    std::vector<double> d_one(7, 0.5), d_many(7, 0.5), many(lane_count);
    loss.row_loss_backward(SerialTeam{}, in, 3.0, as_row(d_one));
    lanes.run([&](auto team) {
      many[static_cast<std::size_t>(team.lane())] = loss.row_loss(team, in);
      loss.row_loss_backward(team, in, 3.0, as_row(d_many));
    });
    check_close(many, std::vector<double>(lane_count, one));
    check_close(d_many, d_one);
  }
}

TEST_CASE("expert choice: scores and gradients")
{
  index_t const T = 5, E = 7;
  std::vector<double> z;
  for (auto const& row : rows_of(static_cast<std::size_t>(E))) {
    z.insert(z.end(), row.begin(), row.end());
  }
  std::vector<std::uint8_t> const mask{1, 1, 1, 0, 1};
  RoutingInput<double, Host> const in{.tokens = T, .experts = E, .mask = as_list(mask)};
  auto const pairs = static_cast<std::size_t>(T * E);
  std::vector<double> score(pairs, 0.0);
  std::vector<std::uint64_t> key_one(pairs), key_many(pairs);
  std::vector<Id> token_one(pairs), token_many(pairs);
  Lanes lanes(lane_count);
  auto const key_row = [&](std::vector<double>& s, auto& key, auto& token) {
    return detail::ExpertChoiceKeyRow<double, Host>{
        in, as_matrix(z, T, E), as_matrix(s, T, E), as_list(key), as_list(token)};
  };
  auto score_many = score;
  for (index_t t = 0; t < T; ++t) {
    key_row(score, key_one, token_one)(SerialTeam{}, t);
    lanes.run([&](auto team) { key_row(score_many, key_many, token_many)(team, t); });
  }
  check_close(score_many, score);
  CHECK(token_many == token_one);

  // Tokens with two experts, none, one, two but masked, three.
  std::vector<Id> const offsets{0, 2, 2, 3, 5, 8}, expert{1, 6, 3, -1, -1, 0, 3, 5};
  std::vector<Id> const token{0, 0, 2, 3, 3, 4, 4, 4};
  auto const weight   = test::uniform_numbers(8, 1, 0, 1);
  auto const d_weight = test::uniform_numbers(8, 2, -1, 1);
  ConstRoutingView<double, Host> const routing{
      as_list(expert), as_list(weight), as_list(offsets), as_list(token), T, 0};
  check_functor(
      T,
      [&](std::vector<double>& d) {
        return detail::ExpertChoiceBackwardRow<double, Host>{
            in, as_matrix(z, T, E), routing, as_list(d_weight), as_matrix(d, T, E)};
      },
      std::vector<double>(pairs, 0.5));
}

TEST_CASE("kept weights, given routing, row maximum, bias update")
{
  std::vector<Id> const slot_of{0, dropped, 1, 2, dropped, dropped, 3, 4, 5, 6};
  TokenAssignments<Host> const assignments{2, 10, 5, {}, {}};
  auto const weight = test::uniform_numbers(10, 1, 0.1, 1);
  check_functor(
      2,
      [&](std::vector<double>& kept) {
        return detail::RenormalizeKeptRow<double, Host>{
            assignments, as_list(slot_of), as_list(weight), as_list(kept)};
      },
      std::vector<double>(10, -1.0));
  std::vector<double> kept(10, 0.0);
  for (index_t t = 0; t < 2; ++t) {
    detail::RenormalizeKeptRow<double, Host>{
        assignments, as_list(slot_of), as_list(weight), as_list(kept)}(SerialTeam{}, t);
  }
  check_functor(
      2,
      [&](std::vector<double>& d) {
        return detail::RenormalizeKeptBackwardRow<double, Host>{
            assignments, as_list(slot_of), as_list(weight), as_list(kept), as_list(d)};
      },
      test::uniform_numbers(10, 3, -1, 1));

  Lanes lanes(lane_count);
  for (auto const& z : rows_of(6)) {
    std::vector<float> one(1), many(1);
    auto const functor = [&](std::vector<float>& to) {
      return detail::RowMaximumRow<double, Host>{as_matrix(z, 1, 6), 5, {}, {}, as_list(to)};
    };
    functor(one)(SerialTeam{}, 0);
    lanes.run([&](auto team) { functor(many)(team, 0); });
    CHECK(std::abs(one[0] - many[0]) < 1e-6f);
    CHECK(one[0] > 0);
  }

  std::vector<Id> const count{4, 9, 0, 1, 6};
  for (Recentre const recentre : {Recentre::no, Recentre::yes}) {
    std::vector<float> one(5, 1.f), many(5, 1.f);
    auto const functor = [&](std::vector<float>& bias) {
      return detail::UpdateSelectionBiasRow<Host>{as_list(count), as_list(bias), 0.25f, recentre};
    };
    for (index_t e = 0; e < 5; ++e) {
      functor(one)(SerialTeam{}, e);
      lanes.run([&](auto team) { functor(many)(team, e); });
    }
    CHECK(one == many);
  }
}
