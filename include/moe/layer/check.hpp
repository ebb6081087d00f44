#pragma once
// The layer's entry checks: all before any work, each naming field, value and limit.
#include <cstdint>
#include <limits>

#include <moe/layer/types.hpp>

namespace moe::detail {

// The memory of one view, under its name: "x", "w_in", "gradient of " "w_in".
struct Span {
  char const* kind;
  char const* name;
  std::uintptr_t begin = 0, end = 0;

  template <class V>
  Span(char const* of_kind, char const* of_name, V const& v) : kind{of_kind}, name{of_name}
  {
    if (v.data_handle() == nullptr) { return; }
    begin = reinterpret_cast<std::uintptr_t>(v.data_handle());
    end   = begin + static_cast<std::uintptr_t>(v.size()) * sizeof(typename V::value_type);
  }
};

inline void no_overlap(Check const& check, Span const& out, Span const& other)
{
  if (out.begin < other.end && other.begin < out.end) {
    check.fail<AliasError>(std::string(out.kind) + out.name,
                           std::string("overlapping ") + other.kind + other.name,
                           "memory of its own");
  }
}

// Every output lies beside all inputs and the outputs before it; each argument is a function that
// visits spans. There is no in-place form: x is still read where y, or dx, is written.
template <class OutputsT, class InputsT>
void check_aliases(Check const& check, OutputsT const& outputs, InputsT const& inputs)
{
  int at = 0;
  outputs([&](Span const& out) {
    inputs([&](Span const& in) { no_overlap(check, out, in); });
    int before = 0;
    outputs([&](Span const& other) {
      if (before++ < at) { no_overlap(check, out, other); }
    });
    ++at;
  });
}

template <class T, class ExecT, class ParamsT, class Visit>
void visit_inputs(LayerInput<T, ExecT> const& in, ParamsT const& params, Visit const& visit)
{
  visit(Span("", "x", in.x));
  visit(Span("", "mask", in.mask));
  visit(Span("", "step", in.step));
  visit(Span("", "given_expert", in.given_expert));
  visit(Span("", "given_weight", in.given_weight));
  params.for_each(
      [&](char const* name, auto const& view, auto const&) { visit(Span("", name, view)); });
}

// Every view of `given` has the extents that `sizes` asks for and a pointer. `kind`: as Span's.
template <class ParamsT, class T, class ExecT, class SizesT>
void check_params(Check const& check,
                  char const* kind,
                  ParamsT const& given,
                  SizesT const& sizes,
                  Carver<T, ExecT> counter)
{
  struct Extents {
    index_t at[3];
  };
  std::array<Extents, 64> expected{};
  std::size_t n = 0;
  ParamsT::carve(counter, sizes).for_each([&]<class V>(char const*, V const& view, auto const&) {
    check.at_most("views of parameters", static_cast<index_t>(n), "what is checked", 63);
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
        check.fail<ShapeError>(std::string(kind) + name + " extent " + std::to_string(r),
                               view.extent(r),
                               "what the layer's sizes give (" + std::to_string(e.at[r]) + ")");
      }
    }
    check.not_null((std::string(kind) + name).c_str(), view);
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
  check.at_most("first_token",
                in.first_token,
                "2^63 - 1 - tokens",
                std::numeric_limits<index_t>::max() - tokens);
  check.not_null("mask", in.mask);
  check.not_null("step", in.step);
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

// A saved state was made for a shape, and has not been moved from; for A assignments in at most R
// slots, which another factor in router or capacity policy makes other numbers.
template <class SavedT, class SizesT>
void check_saved(Check const& check,
                 SavedT const& saved,
                 SizesT const& sizes,
                 index_t tokens,
                 index_t sequences,
                 index_t A,
                 index_t R)
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
  same("saved assignments", saved.routing.expert.extent(0), A);
  same("saved slots", saved.plan.rows(), R);
}

// What a policy itself refuses: check(check, x), or check(check) where x does not matter to it. By
// value, since g++ takes a reference to an empty policy for one to uninitialised memory.
template <class PolicyT, class X>
void check_policy(Check const& check, PolicyT policy, [[maybe_unused]] X const& x)
{
  if constexpr (requires { policy.check(check, x); }) {
    policy.check(check, x);
  } else if constexpr (requires { policy.check(check); }) {
    policy.check(check);
  }
}

}  // namespace moe::detail
