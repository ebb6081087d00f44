#pragma once
// Typed errors, thrown at the public entries before any work; destructors and kernels never throw.
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <moe/core/view.hpp>

namespace moe {
namespace detail {

// Out of line, and of plain copies: messages are not worth what std::string's concatenations cost
// everybody who compiles a check.
[[gnu::noinline, gnu::cold]] inline std::string joined(
    std::initializer_list<std::string_view> parts)
{
  std::size_t size = 0;
  for (auto const part : parts) {
    size += part.size();
  }
  std::string all(size, ' ');
  char* at = all.data();
  for (auto const part : parts) {
    if (!part.empty()) { std::memcpy(at, part.data(), part.size()); }
    at += part.size();
  }
  return all;
}
// A number as std::to_string writes it.
[[gnu::noinline, gnu::cold]] inline std::string text_of_integer(long long value)
{
  char text[24];
  return {text, static_cast<std::size_t>(std::snprintf(text, sizeof text, "%lld", value))};
}
[[gnu::noinline, gnu::cold]] inline std::string text_of_real(double value)
{
  char text[330];  // the largest double has 309 digits before its point
  return {text, static_cast<std::size_t>(std::snprintf(text, sizeof text, "%f", value))};
}
template <class V>
  requires std::is_arithmetic_v<V>
std::string text_of(V value)
{
  if constexpr (std::is_floating_point_v<V>) {
    return text_of_real(static_cast<double>(value));
  } else {
    return text_of_integer(static_cast<long long>(value));
  }
}
[[gnu::noinline, gnu::cold]] inline std::string error_message(std::string_view where,
                                                              std::string_view what,
                                                              std::string_view was,
                                                              std::string_view must_be,
                                                              int at_rank)
{
  if (at_rank == 0) { return joined({where, ": ", what, " is ", was, ", must be ", must_be}); }
  return joined(
      {where, ": ", what, " is ", was, ", must be ", must_be, " [rank ", text_of(at_rank), "]"});
}

}  // namespace detail

// Every error says which operation refused which field, the value it had, the limit it broke, and
// the rank that saw it; what() is one sentence of them.
class Error : public std::runtime_error {
 public:
  [[gnu::noinline, gnu::cold]] Error(std::string_view where,
                                     std::string_view what,
                                     std::string_view was,
                                     std::string_view must_be,
                                     int at_rank = 0)
      : std::runtime_error(detail::error_message(where, what, was, must_be, at_rank)),
        operation{where},
        field{what},
        value{was},
        limit{must_be},
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

// The name of what is checked, in two parts where the first is only known to the caller:
// "gradient of " + "w_in", "dx" + " rows".
struct FieldName {
  FieldName(char const* whole) : first{whole} {}
  FieldName(char const* first_part, char const* second_part)
      : first{first_part}, second{second_part}
  {
  }
  [[nodiscard]] std::string text() const { return detail::joined({first, second}); }

  char const* first;
  char const* second = "";
};

// Checks of one operation; each throws the typed error with field, value and limit. Out of line:
// a call has dozens of them, once, and whoever composes a layer compiles them.
struct Check {
  char const* operation;
  int rank = 0;

  [[gnu::noinline]] void equal(FieldName field,
                               index_t value,
                               char const* other,
                               index_t limit) const
  {
    if (value != limit) {
      fail<ShapeError>(
          field.text(), value, detail::joined({other, " (", detail::text_of(limit), ")"}));
    }
  }
  [[gnu::noinline]] void at_least(FieldName field, index_t value, index_t limit) const
  {
    if (value < limit) {
      fail<ValueError>(field.text(), value, detail::joined({"at least ", detail::text_of(limit)}));
    }
  }
  [[gnu::noinline]] void at_most(FieldName field,
                                 index_t value,
                                 char const* other,
                                 index_t limit) const
  {
    if (value > limit) {
      fail<ValueError>(field.text(),
                       value,
                       detail::joined({"at most ", other, " (", detail::text_of(limit), ")"}));
    }
  }
  template <class ErrorT = ValueError, class V>
  void that(bool ok, char const* field, V const& value, char const* limit) const
  {
    if (!ok) { fail<ErrorT>(field, value, limit); }
  }
  // A view of no elements may be null; one with elements may not.
  template <class ViewT>
  void not_null(FieldName field, ViewT const& view) const
  {
    not_null(field, view.size(), view.data_handle() == nullptr);
  }
  [[gnu::noinline]] void not_null(FieldName field, index_t elements, bool null) const
  {
    if (elements > 0 && null) {
      fail<ValueError>(field.text(),
                       "null",
                       detail::joined({"a pointer to ", detail::text_of(elements), " elements"}));
    }
  }

  // `value` is a number or a text.
  template <class ErrorT, class V>
  [[noreturn, gnu::noinline, gnu::cold]] void fail(std::string_view field,
                                                   V const& value,
                                                   std::string_view limit) const
  {
    if constexpr (std::is_arithmetic_v<V>) {
      throw ErrorT(operation, field, detail::text_of(value), limit, rank);
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
