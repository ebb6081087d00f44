#pragma once
// Typed errors, thrown at the public entries before any work; destructors and kernels never throw.
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <moe/core/view.hpp>

namespace moe {

// Every error says which operation refused which field, the value it had, the limit it broke, and
// the rank that saw it; what() is one sentence of them.
class Error : public std::runtime_error {
 public:
  Error(std::string where, std::string what, std::string was, std::string must_be, int at_rank = 0)
      : std::runtime_error(where + ": " + what + " is " + was + ", must be " + must_be +
                           (at_rank == 0 ? "" : " [rank " + std::to_string(at_rank) + "]")),
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
      fail<ShapeError>(field, value, std::string(other) + " (" + std::to_string(limit) + ")");
    }
  }
  void at_least(char const* field, index_t value, index_t limit) const
  {
    if (value < limit) { fail<ValueError>(field, value, "at least " + std::to_string(limit)); }
  }
  void at_most(char const* field, index_t value, char const* other, index_t limit) const
  {
    if (value > limit) {
      fail<ValueError>(
          field, value, "at most " + std::string(other) + " (" + std::to_string(limit) + ")");
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
      fail<ValueError>(field, "null", "a pointer to " + std::to_string(view.size()) + " elements");
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
        field, std::to_string(a) + " x " + std::to_string(b), "below 2^63");
  }
  return product;
}

}  // namespace moe
