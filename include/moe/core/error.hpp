#pragma once
// Typed errors, thrown at the public entries before any work; destructors and kernels never throw.
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <moe/core/view.hpp>

namespace moe {
namespace detail {

// Out of line: messages are not worth what their concatenations cost everybody who compiles a
// check.
[[gnu::noinline, gnu::cold]] inline std::string joined(
    std::initializer_list<std::string_view> parts)
{
  std::string all;
  for (auto const part : parts) {
    all.append(part);
  }
  return all;
}
[[gnu::noinline, gnu::cold]] inline std::string text_of(index_t value)
{
  return std::to_string(value);
}
[[gnu::noinline, gnu::cold]] inline std::string error_message(std::string_view where,
                                                              std::string_view what,
                                                              std::string_view was,
                                                              std::string_view must_be,
                                                              int at_rank)
{
  std::string message = joined({where, ": ", what, " is ", was, ", must be ", must_be});
  if (at_rank != 0) { message = joined({message, " [rank ", text_of(at_rank), "]"}); }
  return message;
}

}  // namespace detail

// Every error says which operation refused which field, the value it had, the limit it broke, and
// the rank that saw it; what() is one sentence of them.
class Error : public std::runtime_error {
 public:
  [[gnu::noinline, gnu::cold]] Error(
      std::string where, std::string what, std::string was, std::string must_be, int at_rank = 0)
      : std::runtime_error(detail::error_message(where, what, was, must_be, at_rank)),
        operation{std::move(where)},
        field{std::move(what)},
        value{std::move(was)},
        limit{std::move(must_be)},
        rank{at_rank}
  {
  }
  std::string operation, field, value, limit;
  int rank;
};

struct ShapeError : Error {  // extents that do not fit together
  using Error::Error;
};
struct ValueError : Error {  // a number out of its range: NaN factor, top_k > experts, null pointer
  using Error::Error;
};
struct AliasError : Error {  // an output overlaps an input
  using Error::Error;
};
struct OverflowError : Error {  // a product of extents leaves its integer type
  using Error::Error;
};
struct StateError
    : Error {  // an object used in a state it cannot be used in: moved from, of another shape
  using Error::Error;
};
struct OutOfMemoryError : Error {  // the space's memory resource had no more
  using Error::Error;
};

// Checks of one operation; each throws the typed error with field, value and limit. What throws is
// kept out of line, so that the checks cost their callers a comparison.
struct Check {
  char const* operation;
  int rank = 0;

  void equal(char const* field, index_t value, char const* other, index_t limit) const
  {
    if (value != limit) {
      fail<ShapeError>(field, value, detail::joined({other, " (", detail::text_of(limit), ")"}));
    }
  }
  void at_least(char const* field, index_t value, index_t limit) const
  {
    if (value < limit) {
      fail<ValueError>(field, value, detail::joined({"at least ", detail::text_of(limit)}));
    }
  }
  void at_most(char const* field, index_t value, char const* other, index_t limit) const
  {
    if (value > limit) {
      fail<ValueError>(
          field, value, detail::joined({"at most ", other, " (", detail::text_of(limit), ")"}));
    }
  }
  template <class ErrorT = ValueError, class V>
  void that(bool ok, char const* field, V const& value, char const* limit) const
  {
    if (!ok) { fail<ErrorT>(field, value, limit); }
  }
  // A view of no elements may be null; one with elements may not.
  template <class ViewT>
  void not_null(char const* field, ViewT const& view) const
  {
    if (view.size() > 0 && view.data_handle() == nullptr) {
      fail<ValueError>(
          field,
          "null",
          detail::joined({"a pointer to ", detail::text_of(view.size()), " elements"}));
    }
  }

  // `value` is a number or a text.
  template <class ErrorT, class V>
  [[noreturn, gnu::noinline, gnu::cold]] void fail(std::string const& field,
                                                   V const& value,
                                                   std::string const& limit) const
  {
    if constexpr (std::is_arithmetic_v<V>) {
      throw ErrorT(operation, field, std::to_string(value), limit, rank);
    } else {
      throw ErrorT(operation, field, value, limit, rank);
    }
  }
};

// a * b of non-negative extents, or an OverflowError.
inline index_t checked_mul(char const* operation, char const* field, index_t a, index_t b)
{
  index_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) {
    Check{operation}.fail<OverflowError>(
        field, detail::joined({detail::text_of(a), " x ", detail::text_of(b)}), "below 2^63");
  }
  return product;
}

}  // namespace moe
