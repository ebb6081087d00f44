#pragma once
// How large C is: the rules of the systems, which differ for the same factor. All are computed in
// double and in the order of operations of the system named, since ceil(1.1 * 4 * 1000 / 16) and
// ceil(4 * 1000 / 16 * 1.1) are not the same number.
#include <cmath>
#include <limits>
#include <string>

#include <moe/plan/capacity_policy.hpp>

namespace moe {
namespace detail {

// Rounded towards 0. Far above any load (ids have 32 bits) it stays where products of it with K do
// not overflow; NaN, which check() refuses, lands there too.
inline index_t as_slots(double c)
{
  return c < 0x1p40 ? static_cast<index_t>(c) : index_t{1} << 40;
}
inline index_t round_up(index_t n, index_t multiple)
{
  return (n + multiple - 1) / multiple * multiple;
}
inline void check_factor(Check const& check, double factor, bool may_be_negative = false)
{
  check.that(std::isfinite(factor) && (may_be_negative || factor >= 0),
             "capacity factor",
             factor,
             may_be_negative ? "finite" : "finite and at least 0");
}
inline void check_alignment(Check const& check, index_t alignment)
{
  check.at_least("capacity alignment", alignment, 1);
  check.at_most(
      "capacity alignment", alignment, "the largest 32-bit id", std::numeric_limits<Id>::max());
}

}  // namespace detail

// floor(factor K T / E) (MegaBlocks, FastMoE's order): with factor 1 it may be below the mean load.
struct FloorCapacity {
  double factor     = 1.25;
  index_t alignment = 1;  // rounded up to a multiple of it

  [[nodiscard]] index_t operator()(RoutingShape s, index_t) const
  {
    return detail::round_up(
        detail::as_slots(factor * static_cast<double>(s.top_k) * static_cast<double>(s.tokens) /
                         static_cast<double>(s.experts)),
        alignment);
  }
  void check(Check const& c) const
  {
    detail::check_factor(c, factor);
    detail::check_alignment(c, alignment);
  }
};

// max(minimum, ceil(K T / E factor)) (Megatron: minimum 0; DeepSpeed: 4), rounded up to a multiple
// (V-MoE: 4).
struct CeilCapacity {
  double factor     = 1.25;
  index_t minimum   = 0;
  index_t alignment = 1;

  [[nodiscard]] index_t operator()(RoutingShape s, index_t) const
  {
    double const mean = static_cast<double>(s.top_k) * static_cast<double>(s.tokens) /
                        static_cast<double>(s.experts);
    index_t const c = detail::as_slots(std::ceil(mean * factor));
    return detail::round_up(c > minimum ? c : minimum, alignment);
  }
  void check(Check const& c) const
  {
    detail::check_factor(c, factor);
    c.at_least("capacity minimum", minimum, 0);
    detail::check_alignment(c, alignment);
  }
};

// Tutel: factor > 0: K floor(factor ceil(T / E)); 0: the largest load, so nothing is dropped;
// < 0: the largest load, but at most what -factor would give. The last two wait for the device.
struct TutelCapacity {
  double factor     = 1;
  index_t alignment = 1;

  [[nodiscard]] index_t operator()(RoutingShape s, index_t max_load) const
  {
    index_t const per_expert = (s.tokens + s.experts - 1) / s.experts;
    index_t const limit =
        s.top_k * detail::as_slots(std::fabs(factor) * static_cast<double>(per_expert));
    index_t const c = factor > 0 ? limit : factor == 0 || max_load < limit ? max_load : limit;
    return detail::round_up(c, alignment);
  }
  [[nodiscard]] bool needs_loads() const { return factor <= 0; }
  void check(Check const& c) const
  {
    detail::check_factor(c, factor, true);
    detail::check_alignment(c, alignment);
  }
};

// FastMoE's gates: floor(ceil(rate T) K / E), rate 1.2 in training and 2.4 in evaluation there.
struct FastMoeCapacity {
  double rate = 1.2;

  [[nodiscard]] index_t operator()(RoutingShape s, index_t) const
  {
    return detail::as_slots(std::ceil(rate * static_cast<double>(s.tokens))) * s.top_k / s.experts;
  }
  void check(Check const& c) const { detail::check_factor(c, rate); }
};

// Mesh-TensorFlow: max(min(T, floor(T factor / E)), 4): no K in it, so the factor of top-2 is
// doubled.
struct MeshTfCapacity {
  double factor = 1;

  [[nodiscard]] index_t operator()(RoutingShape s, index_t) const
  {
    index_t const c =
        detail::as_slots(static_cast<double>(s.tokens) * factor / static_cast<double>(s.experts));
    index_t const at_most = c < s.tokens ? c : s.tokens;
    return at_most > 4 ? at_most : 4;
  }
  void check(Check const& c) const { detail::check_factor(c, factor); }
};

// A number of slots, whatever the batch.
struct FixedCapacity {
  index_t value = 0;

  [[nodiscard]] index_t operator()(RoutingShape, index_t) const { return value; }
  void check(Check const& c) const { c.at_least("capacity", value, 0); }
};

}  // namespace moe
