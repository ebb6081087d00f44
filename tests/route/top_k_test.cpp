// The K largest of a row: against a stable sort, with one lane and with several.
#include <moe/exec/host.hpp>
#include <moe/route/row_math.hpp>
#include <support/lane_team.hpp>
#include <support/route_check.hpp>

#include <string>

using namespace moe;
using moe::test::as_row, moe::test::infinite, moe::test::not_a_number;

namespace {

constexpr double largest  = std::numeric_limits<double>::max();
constexpr double smallest = std::numeric_limits<double>::denorm_min();

// What a logit counts as: NaN and -infinity as the lowest number, +infinity as the largest.
double counts_as(double z)
{
  return std::isnan(z) ? -largest : std::clamp(z, -largest, largest);
}

std::vector<Id> sorted_columns(std::vector<double> const& z)
{
  std::vector<Id> column(z.size());
  std::iota(column.begin(), column.end(), 0);
  std::stable_sort(column.begin(), column.end(), [&](Id a, Id b) {
    return counts_as(z[static_cast<std::size_t>(a)]) > counts_as(z[static_cast<std::size_t>(b)]);
  });
  return column;
}

template <int K>
void check_top_k(std::vector<double> const& z)
{
  if (z.size() < K) { return; }
  CAPTURE(K);
  auto const column = top_k<K>(SerialTeam{}, static_cast<Id>(z.size()), [&](Id i) {
    return z[static_cast<std::size_t>(i)];
  });
  auto const sorted = sorted_columns(z);
  CHECK(std::equal(column.begin(), column.end(), sorted.begin()));
}

void check_every_k(std::vector<double> const& z)
{
  check_top_k<1>(z);
  check_top_k<2>(z);
  check_top_k<3>(z);
  check_top_k<5>(z);
  check_top_k<8>(z);
  check_top_k<31>(z);
  check_top_k<32>(z);
}

struct Named {
  std::string name;
  std::vector<double> z;
};

// Rows of n that a router may meet, friendly ones first.
std::vector<Named> rows_of(std::size_t n)
{
  std::vector<double> const special{
      not_a_number, infinite, -infinite, smallest, -smallest, 0.0, -0.0, largest, -largest, 1.0};
  auto const with = [&](unsigned seed, unsigned share) {
    auto z = test::uniform_numbers(n, seed, -3, 3);
    std::minstd_rand random(seed + 1);
    for (double& x : z) {
      if (random() / 7 % 100 < share) { x = special[random() / 7 % special.size()]; }
    }
    return z;
  };
  auto whole = test::uniform_numbers(n, 5, -2, 2);
  std::transform(whole.begin(), whole.end(), whole.begin(), [](double x) { return std::round(x); });
  auto ascending = test::uniform_numbers(n, 6, -1, 1);
  std::sort(ascending.begin(), ascending.end());
  std::vector<double> last(n, -infinite), denormal(n);
  last.back() = -5;
  for (std::size_t i = 0; i < n; ++i) {
    denormal[i] = smallest * static_cast<double>(i * 7 % 11);
  }
  return {{"distinct", test::spaced_logits(n, 1)},
          {"ties", whole},
          {"ascending", ascending},
          {"descending", {ascending.rbegin(), ascending.rend()}},
          {"equal", std::vector<double>(n, 0.5)},
          {"some not finite", with(7, 20)},
          {"hardly any finite", with(8, 95)},
          {"all NaN", std::vector<double>(n, not_a_number)},
          {"all +inf", std::vector<double>(n, infinite)},
          {"all -inf", std::vector<double>(n, -infinite)},
          {"the last one finite", last},
          {"denormals", denormal}};
}

constexpr std::size_t expert_counts[] = {1, 2, 5, 31, 32, 33, 64, 127, 129, 255, 256, 257, 1024};

}  // namespace

TEST_CASE("top_k equals a stable sort, whatever the row holds")
{
  for (std::size_t const n : expert_counts) {
    for (auto const& [name, z] : rows_of(n)) {
      CAPTURE(n);
      CAPTURE(name);
      check_every_k(z);
    }
  }
}

TEST_CASE("a special value at any place")
{
  for (double const special : {not_a_number, infinite, -infinite, largest, -largest, smallest}) {
    for (std::size_t const n : {5u, 33u}) {
      for (std::size_t at = 0; at < n; ++at) {
        auto z = test::spaced_logits(n, 9);
        z[at]  = special;
        CAPTURE(special);
        CAPTURE(at);
        check_every_k(z);
      }
    }
  }
}

TEST_CASE("-0 and 0 are a tie")
{
  check_top_k<2>({-0.0, 0.0, -1.0});
  check_top_k<2>({0.0, -0.0, -1.0});
}

TEST_CASE("in float, numbers that only double tells apart are a tie")
{
  std::vector<float> const z{1.f, static_cast<float>(1 + 1e-12), 0.f};
  auto const at = [&](Id i) { return z[static_cast<std::size_t>(i)]; };
  CHECK(top_k<2>(SerialTeam{}, 3, at) == Array<Id, 2>{{0, 1}});
}

TEST_CASE_TEMPLATE("several lanes choose what one does", S, float, double)
{
  for (int const size : {2, 4}) {
    test::Lanes lanes(size);
    for (std::size_t const n : expert_counts) {
      for (auto const& [name, wide] : rows_of(n)) {
        std::vector<S> z(n);
        std::transform(wide.begin(), wide.end(), z.begin(), [](double x) {
          return std::abs(x) == largest ? static_cast<S>(std::copysign(infinite, x))
                                        : static_cast<S>(x);
        });
        auto const score = [&](Id i) { return z[static_cast<std::size_t>(i)]; };
        auto const count = static_cast<Id>(n);
        auto const one   = top_k<1>(SerialTeam{}, count, score);
        auto const three = top_k<3>(SerialTeam{}, count, score);
        auto const most  = top_k<32>(SerialTeam{}, count, score);
        std::vector<char> same(static_cast<std::size_t>(size));
        lanes.run([&](auto team) {
          bool ok = top_k<1>(team, count, score) == one;
          ok      = ok && (n < 3 || top_k<3>(team, count, score) == three);
          if (n == 32 || n == 257) { ok = ok && top_k<32>(team, count, score) == most; }
          same[static_cast<std::size_t>(team.lane())] = ok;
        });
        CAPTURE(n);
        CAPTURE(name);
        CHECK(std::count(same.begin(), same.end(), 1) == size);
      }
    }
  }
}
