#include <moe/core/error.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <type_traits>

using moe::Check;

static_assert(std::is_base_of_v<std::runtime_error, moe::Error>);
static_assert(std::is_base_of_v<moe::Error, moe::ShapeError>);
static_assert(std::is_base_of_v<moe::Error, moe::OutOfMemoryError>);

namespace {

template <class ErrorT, class F>
ErrorT caught(F const& f)
{
  try {
    f();
  } catch (ErrorT const& e) {
    return e;
  }
  FAIL("nothing was thrown");
  return ErrorT("", "", "", "");
}

struct Nowhere {};

}  // namespace

TEST_CASE("an error has its parts, and what() is their sentence")
{
  moe::ValueError const e("moe::route", "top_k", "9", "at most experts (8)", 3);
  CHECK(e.operation == "moe::route");
  CHECK(e.field == "top_k");
  CHECK(e.value == "9");
  CHECK(e.limit == "at most experts (8)");
  CHECK(e.rank == 3);
  CHECK(std::string(e.what()) == "moe::route: top_k is 9, must be at most experts (8) [rank 3]");
  CHECK(std::string(moe::StateError("f", "a", "b", "c").what()) == "f: a is b, must be c");
}

TEST_CASE("checks let good values through and name what they refuse")
{
  Check const check{"moe::f", 2};
  CHECK_NOTHROW(check.equal("x rows", 4, "tokens", 4));
  CHECK_NOTHROW(check.at_least("top_k", 1, 1));
  CHECK_NOTHROW(check.at_most("top_k", 8, "experts", 8));
  CHECK_NOTHROW(check.that(true, "factor", "1", "finite"));
  auto const equal = caught<moe::ShapeError>([&] { check.equal("x rows", 5, "tokens", 4); });
  CHECK(std::string(equal.what()) == "moe::f: x rows is 5, must be tokens (4) [rank 2]");
  CHECK(equal.rank == 2);
  auto const least = caught<moe::ValueError>([&] { check.at_least("top_k", 0, 1); });
  CHECK(std::string(least.what()) == "moe::f: top_k is 0, must be at least 1 [rank 2]");
  auto const most = caught<moe::ValueError>([&] { check.at_most("top_k", 9, "experts", 8); });
  CHECK(std::string(most.what()) == "moe::f: top_k is 9, must be at most experts (8) [rank 2]");
  CHECK_THROWS_AS(check.that(false, "factor", "nan", "finite"), moe::ValueError);
  CHECK_THROWS_AS(check.that<moe::AliasError>(false, "y", "x", "other memory"), moe::AliasError);
}

TEST_CASE("a view of elements may not be null")
{
  Check const check{"moe::f"};
  float x = 0;
  CHECK_NOTHROW(check.not_null("x", moe::View<float, 1, Nowhere>(&x, 1)));
  CHECK_NOTHROW(check.not_null("x", moe::View<float, 2, Nowhere>(nullptr, 0, 4)));
  auto const e = caught<moe::ValueError>(
      [&] { check.not_null("x", moe::View<float, 2, Nowhere>(nullptr, 2, 4)); });
  CHECK(std::string(e.what()) == "moe::f: x is null, must be a pointer to 8 elements");
}

TEST_CASE("checked_mul multiplies up to 2^63 - 1")
{
  moe::index_t const large = std::numeric_limits<moe::index_t>::max();
  CHECK(moe::checked_mul("f", "n", large, 1) == large);
  CHECK(moe::checked_mul("f", "n", 0, large) == 0);
  auto const e = caught<moe::OverflowError>(
      [] { moe::checked_mul("f", "n", moe::index_t{1} << 32, moe::index_t{1} << 31); });
  CHECK(std::string(e.what()) == "f: n is 4294967296 x 2147483648, must be below 2^63");
}
