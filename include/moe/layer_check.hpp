#pragma once
// The layer's entry checks: all before any work, each naming field, value and limit.
#include <cstdint>
#include <limits>

#include <moe/layer_types.hpp>

namespace moe::detail {

template <class A, class B>
bool overlap(A const& a, B const& b)
{
  auto const begin = [](auto const& v) {
    return reinterpret_cast<std::uintptr_t>(v.data_handle());
  };
  auto const end = [&](auto const& v) {
    return begin(v) + static_cast<std::uintptr_t>(v.size()) * sizeof(typename A::value_type);
  };
  auto const end_b =
      begin(b) + static_cast<std::uintptr_t>(b.size()) * sizeof(typename B::value_type);
  return a.size() > 0 && b.size() > 0 && begin(a) < end_b && begin(b) < end(a);
}

template <class A, class B>
void no_overlap(Check const& check, char const* field, A const& out, char const* other, B const& in)
{
  if (overlap(out, in)) {
    check.fail<AliasError>(field, std::string("overlapping ") + other, "memory of its own");
  }
}

// Every view of `given` has the extents that `sizes` asks for and a pointer.
template <class ParamsT, class T, class ExecT, class SizesT>
void check_params(Check const& check,
                  ParamsT const& given,
                  SizesT const& sizes,
                  Carver<T, ExecT> counter)
{
  struct Extents {
    index_t at[3];
  };
  std::array<Extents, 32> expected{};
  std::size_t n = 0;
  ParamsT::carve(counter, sizes).for_each([&]<class V>(char const*, V const& view, auto const&) {
    auto& e = expected[n++];
    for (int r = 0; r < V::rank; ++r) {
      e.at[r] = view.extent(r);
    }
  });
  n = 0;
  given.for_each([&]<class V>(char const* name, V const& view, auto const&) {
    auto const& e = expected[n++];
    for (int r = 0; r < V::rank; ++r) {
      if (view.extent(r) != e.at[r]) {
        check.fail<ShapeError>(std::string(name) + " extent " + std::to_string(r),
                               view.extent(r),
                               "what the layer's sizes give (" + std::to_string(e.at[r]) + ")");
      }
    }
    check.not_null(name, view);
  });
}

template <class SizesT>
void check_sizes(Check const& check, SizesT const& s, int top_k)
{
  check.at_least("hidden", s.hidden, 1);
  check.at_least("experts", s.experts, 1);
  check.at_most("experts", s.experts, "what 16-bit expert ids could hold", 65535);
  check.at_most("top_k", top_k, "experts", s.experts);
}

// Assignments and slots are numbered by 32-bit ids.
inline void check_ids(Check const& check, char const* field, index_t n)
{
  check.that<OverflowError>(
      n <= std::numeric_limits<Id>::max(), field, n, "at most 2147483647, the largest 32-bit id");
}

template <class T, class ExecT, class SizesT>
void check_input(
    Check const& check, LayerInput<T, ExecT> const& in, SizesT const& sizes, int top_k, bool given)
{
  index_t const tokens = in.x.extent(0);
  check.equal("x columns", in.x.extent(1), "hidden", sizes.hidden);
  check.not_null("x", in.x);
  check.at_least("first_token", in.first_token, 0);
  if (in.mask.data_handle() != nullptr) {
    check.equal("mask", in.mask.extent(0), "tokens", tokens);
  }
  if (in.step.data_handle() != nullptr) { check.equal("step", in.step.extent(0), "one state", 1); }
  if (given) {
    check.equal("given_expert rows", in.given_expert.extent(0), "tokens", tokens);
    check.equal("given_expert columns", in.given_expert.extent(1), "top_k", top_k);
    check.equal("given_weight rows", in.given_weight.extent(0), "tokens", tokens);
    check.equal("given_weight columns", in.given_weight.extent(1), "top_k", top_k);
    check.not_null("given_expert", in.given_expert);
    check.not_null("given_weight", in.given_weight);
  } else {
    check.equal("given_expert", in.given_expert.size(), "nothing, since the router decides", 0);
    check.equal("given_weight", in.given_weight.size(), "nothing, since the router decides", 0);
  }
}

template <class ViewT, class XT>
void check_output(Check const& check, char const* name, ViewT const& y, XT const& x)
{
  auto const same = [&](char const* extent, index_t is, char const* other, index_t limit) {
    if (is != limit) {
      check.fail<ShapeError>(
          std::string(name) + extent, is, std::string(other) + " (" + std::to_string(limit) + ")");
    }
  };
  same(" rows", y.extent(0), "tokens", x.extent(0));
  same(" columns", y.extent(1), "hidden", x.extent(1));
  check.not_null(name, y);
}

// A saved state was made for a shape, and has not been moved from.
template <class SavedT, class SizesT>
void check_saved(
    Check const& check, SavedT const& saved, SizesT const& sizes, index_t tokens, index_t sequences)
{
  auto const same = [&](char const* field, index_t was, index_t is) {
    if (was != is) {
      check.fail<StateError>(field, was, "made for this call's " + std::to_string(is));
    }
  };
  same("saved tokens", saved.tokens, tokens);
  same("saved sequences", saved.sequences, sequences);
  same("saved hidden", saved.sizes.hidden, sizes.hidden);
  same("saved experts", saved.sizes.experts, sizes.experts);
  same("saved plan's offsets", saved.plan.expert_offsets.extent(0), sizes.experts + 1);
  check.that<StateError>(saved.sizes == sizes, "saved sizes", "others", "those of the parameters");
}

// What a policy itself refuses: check(check, x), or check(check) where x does not matter to it.
template <class PolicyT, class X>
void check_policy(Check const& check, PolicyT const& policy, [[maybe_unused]] X const& x)
{
  if constexpr (requires { policy.check(check, x); }) {
    policy.check(check, x);
  } else if constexpr (requires { policy.check(check); }) {
    policy.check(check);
  }
}

}  // namespace moe::detail
