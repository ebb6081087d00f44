// Weights renormalised over what drops left, and the score that tokens are ranked by.
#include <moe/exec/host.hpp>
#include <moe/route/expert_choice_router.hpp>
#include <moe/route/renormalize_kept.hpp>
#include <moe/route/row_maximum.hpp>
#include <moe/route/scored_router.hpp>
#include <support/route_check.hpp>

using namespace moe;
using moe::test::as_list, moe::test::as_matrix, moe::test::infinite, moe::test::not_a_number;

namespace {

// Tokens with assignments [offsets(t), offsets(t + 1)), as lists or at a stride.
struct Lists {
  std::vector<Id> offsets, token, slot_of;
  int stride = 0;
  [[nodiscard]] index_t tokens() const { return static_cast<index_t>(offsets.size()) - 1; }
  [[nodiscard]] TokenAssignments<Host> assignments() const
  {
    auto const A = static_cast<index_t>(slot_of.size());
    return stride > 0 ? TokenAssignments<Host>{tokens(), A, stride, {}, {}}
                      : TokenAssignments<Host>{tokens(), A, 0, as_list(offsets), as_list(token)};
  }
};

Lists by_stride()  // K = 3: nothing dropped, the middle, two, all
{
  return {{0, 3, 6, 9, 12}, {}, {4, 5, 6, 0, dropped, 1, dropped, dropped, 9, -1, -1, -1}, 3};
}
Lists by_offsets()  // a token of none, of one, of four
{
  return {{0, 0, 1, 5, 7}, {1, 2, 2, 2, 2, 3, 3}, {3, 0, dropped, 1, 2, dropped, dropped}};
}

std::vector<double> renormalize(Lists const& lists, std::vector<double> const& weight)
{
  std::vector<double> kept(weight.size(), not_a_number);
  Host const exec{{.threads = 2}};
  exec.for_each_row(
      lists.tokens(),
      detail::RenormalizeKeptRow<double, Host>{
          lists.assignments(), as_list(lists.slot_of), as_list(weight), as_list(kept)});
  return kept;
}

std::vector<double> naive_renormalize(Lists const& lists, std::vector<double> const& weight)
{
  std::vector<double> kept(weight.size(), 0.0);
  for (std::size_t t = 0; t + 1 < lists.offsets.size(); ++t) {
    auto const from = static_cast<std::size_t>(lists.offsets[t]);
    auto const to   = static_cast<std::size_t>(lists.offsets[t + 1]);
    double sum      = 0;
    for (std::size_t a = from; a < to; ++a) {
      sum += lists.slot_of[a] >= 0 ? weight[a] : 0;
    }
    for (std::size_t a = from; a < to; ++a) {
      kept[a] = lists.slot_of[a] >= 0 ? weight[a] / sum : 0;
    }
  }
  return kept;
}

}  // namespace

TEST_CASE("kept weights sum to one, dropped ones are 0; the gradient is theirs")
{
  for (auto const& lists : {by_stride(), by_offsets()}) {
    auto const n      = lists.slot_of.size();
    auto const weight = test::uniform_numbers(n, 3, 0.1, 1);
    auto const kept   = renormalize(lists, weight);
    auto const naive  = naive_renormalize(lists, weight);
    for (std::size_t a = 0; a < n; ++a) {
      CAPTURE(a);
      CHECK(kept[a] == doctest::Approx(naive[a]).epsilon(1e-14));
    }

    auto const u = test::uniform_numbers(n, 4, -1, 1);
    auto d       = u;  // in place: the gradient of kept becomes that of weight
    for (std::size_t a = 0; a < n; ++a) {
      if (lists.slot_of[a] < 0) { d[a] = 1e9; }  // of no meaning, and not to be used
    }
    Host const exec{{.threads = 2}};
    exec.for_each_row(lists.tokens(),
                      detail::RenormalizeKeptBackwardRow<double, Host>{lists.assignments(),
                                                                       as_list(lists.slot_of),
                                                                       as_list(weight),
                                                                       as_list(kept),
                                                                       as_list(d)});
    test::check_gradient(
        [&](std::vector<double> const& w) {
          auto const v = naive_renormalize(lists, w);
          return std::inner_product(v.begin(), v.end(), u.begin(), 0.0);
        },
        weight,
        d);
  }
}

TEST_CASE("kept weights that sum to 0 stay 0, and so does their gradient")
{
  Lists const lists{{0, 2}, {}, {0, 1}, 2};
  std::vector<double> const weight{0, 0}, kept = renormalize(lists, weight);
  CHECK(kept == std::vector<double>{0, 0});
  std::vector<double> d{1, 2};
  detail::RenormalizeKeptBackwardRow<double, Host>{
      lists.assignments(), as_list(lists.slot_of), as_list(weight), as_list(kept), as_list(d)}(
      SerialTeam{}, 0);
  CHECK(d == std::vector<double>{0, 0});
}

TEST_CASE("a renormalising router is still the router it wraps")
{
  RenormalizeKept const router{SoftmaxTopK<2>{.scale = 3}};
  static_assert(RowRouter<decltype(router)>);
  static_assert(RenormalizesKept<RenormalizeKept<SoftmaxTopK<2>>>);
  static_assert(RenormalizesKept<RenormalizeKept<ExpertChoice>>);
  static_assert(!RenormalizesKept<SoftmaxTopK<2>>);
  std::vector<double> const z{1, 3, 2};
  auto const c = router.route(SerialTeam{}, RowContext{}, test::as_row(z));
  auto const p = test::softmax_of(z);
  CHECK(c.expert == Array<Id, 2>{{1, 2}});
  CHECK(c.weight[0] == doctest::Approx(3 * p[1]));
}

TEST_CASE("tokens rank by their largest probability")
{
  index_t const E = 4, N = 6;  // columns past the experts' are not looked at
  std::vector<double> const logits{1,
                                   3,
                                   2,
                                   -1,
                                   90,
                                   90,  //
                                   -infinite,
                                   2,
                                   2,
                                   not_a_number,
                                   0,
                                   0,  //
                                   infinite,
                                   1,
                                   infinite,
                                   0,
                                   0,
                                   0,  //
                                   not_a_number,
                                   -infinite,
                                   not_a_number,
                                   -infinite,
                                   5,
                                   6};
  std::vector<float> row_max(4, -1.f);
  Host const exec{{.threads = 1}};
  exec.for_each_row(
      4, detail::RowMaximumRow<double, Host>{as_matrix(logits, 4, N), E, {}, {}, as_list(row_max)});
  CHECK(row_max[0] == doctest::Approx(test::softmax_of({1, 3, 2, -1})[1]).epsilon(1e-6));
  CHECK(row_max[1] == 0.5f);
  CHECK(row_max[2] == 0.5f);
  CHECK(row_max[3] == 0.25f);  // no finite logit: uniform
}

TEST_CASE("without logits, by their largest weight")
{
  auto const lists = by_offsets();
  std::vector<double> const weight{0.5, 0.25, 0.75, 0.125, 0.5, -1, -2};
  std::vector<float> row_max(4, -1.f);
  Host const exec{{.threads = 1}};
  exec.for_each_row(4,
                    detail::RowMaximumRow<double, Host>{View<double const, 2, Host>(nullptr, 4, 0),
                                                        9,
                                                        lists.assignments(),
                                                        as_list(weight),
                                                        as_list(row_max)});
  CHECK(row_max == std::vector<float>{0, 0.5f, 0.75f, 0});
}
