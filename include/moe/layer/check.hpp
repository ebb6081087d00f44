#pragma once
// The layer's entry checks: all before any work, each naming field, value and limit.
#include <cstdint>
#include <limits>

#include <moe/layer/types.hpp>

namespace moe::detail {

// A space that only counts memory (MemoryMeter): views of other spaces do there what its own would.
template <class ExecT>
concept computes_nothing = requires { requires !ExecT::computes; };

// The views that a call was given, as plain data: so the checks below are compiled once, whatever
// the layer is composed of. A view's full name is kind + name: "gradient of " + "w_in".
class ViewList {
 public:
  struct Entry {
    char const* kind;
    char const* name;
    std::uintptr_t begin, end;  // its memory; both 0 for a null pointer
    int rank;
    Array<index_t, 3> extent;
    std::size_t alignment;  // of its elements
  };
  static constexpr int capacity = 96;

  template <class V>
  void add(char const* kind, char const* name, V const& v)
  {
    static_assert(V::rank <= 3);
    using T = typename V::value_type;
    push(kind, name, v.data_handle(), {V::rank, sizeof(T), alignof(T)}, v.extents().begin());
  }
  // Every view of a struct of parameters.
  template <class ParamsT>
  void add_params(char const* kind, ParamsT const& params)
  {
    params.for_each(
        [&](char const* name, auto const& view, auto const&) { add(kind, name, view); });
  }

  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] Entry const& operator[](int i) const { return entries_[i]; }

 private:
  struct Kind {
    int rank;
    std::size_t bytes, alignment;  // of an element
  };
  [[gnu::noinline]] void push(
      char const* kind, char const* name, void const* data, Kind of, index_t const* extent)
  {
    Check{"moe::Layer"}.at_most("views of one call", size_ + 1, "what is checked", capacity);
    auto const begin = reinterpret_cast<std::uintptr_t>(data);
    Entry e{kind, name, begin, begin, of.rank, {}, of.alignment};
    std::size_t bytes = begin != 0 ? of.bytes : 0;
    for (int r = 0; r < of.rank; ++r) {
      e.extent[r] = extent[r];
      bytes *= static_cast<std::size_t>(extent[r]);
    }
    e.end += bytes;
    entries_[size_++] = e;
  }

  Array<Entry, capacity> entries_;
  int size_ = 0;
};

// Every output lies beside all inputs and the outputs before it. There is no in-place form: x is
// still read where y, or dx, is written.
inline void check_aliases(Check const& check, ViewList const& outputs, ViewList const& inputs)
{
  auto const apart = [&](ViewList::Entry const& out, ViewList::Entry const& other) {
    if (out.begin < other.end && other.begin < out.end) {
      check.fail<AliasError>(joined({out.kind, out.name}),
                             joined({"overlapping ", other.kind, other.name}),
                             "memory of its own");
    }
  };
  for (int i = 0; i < outputs.size(); ++i) {
    for (int j = 0; j < inputs.size(); ++j) {
      apart(outputs[i], inputs[j]);
    }
    for (int j = 0; j < i; ++j) {
      apart(outputs[i], outputs[j]);
    }
  }
}

inline void check_alignment(Check const& check, ViewList::Entry const& v)
{
  if (v.begin % v.alignment != 0) {
    check.fail<ValueError>(
        joined({v.kind, v.name}),
        joined({"misaligned by ", text_of(v.begin % v.alignment)}),
        joined({"aligned to ", text_of(v.alignment), " bytes, as its elements"}));
  }
}

// Every view that is not empty starts where its elements may, and in memory of the space where the
// space can tell.
template <class ExecT>
void check_memory(Check const& check, [[maybe_unused]] ExecT const& exec, ViewList const& views)
{
  for (int i = 0; i < views.size(); ++i) {
    auto const& v = views[i];
    if (v.begin == v.end) { continue; }
    check_alignment(check, v);
    if constexpr (requires { exec.check_pointer(check, v.kind, v.name, nullptr); }) {
      exec.check_pointer(check, v.kind, v.name, reinterpret_cast<void const*>(v.begin));
    }
  }
}

// The outputs and inputs of a call, each in memory that it may have.
template <class ExecT>
void check_memory(Check const& check,
                  ExecT const& exec,
                  ViewList const& outputs,
                  ViewList const& inputs)
{
  check_aliases(check, outputs, inputs);
  check_memory(check, exec, outputs);
  check_memory(check, exec, inputs);
}

// Every view from `first` on has the extents of its like in `expected` and a pointer.
inline void check_params(Check const& check,
                         ViewList const& given,
                         int first,
                         ViewList const& expected)
{
  for (int i = 0; i < expected.size(); ++i) {
    auto const& is      = given[first + i];
    auto const& must_be = expected[i];
    index_t elements    = 1;
    for (int r = 0; r < is.rank; ++r) {
      if (is.extent[r] != must_be.extent[r]) {
        check.fail<ShapeError>(
            joined({is.kind, is.name, " extent ", text_of(r)}),
            is.extent[r],
            joined({"what the layer's sizes give (", text_of(must_be.extent[r]), ")"}));
      }
      elements *= is.extent[r];
    }
    check.not_null({is.kind, is.name}, elements, is.begin == 0);
  }
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

template <class T, class ExecT>
[[nodiscard]] ViewList views_of(LayerInput<T, ExecT> const& in)
{
  ViewList views;
  views.add("", "x", in.x);
  views.add("", "mask", in.mask);
  views.add("", "step", in.step);
  views.add("", "given_expert", in.given_expert);
  views.add("", "given_weight", in.given_weight);
  return views;
}
// A router's selection bias, where it has one.
template <class ExecT, class RouterT>
void add_bias(Check const& check, RouterT const& router, ViewList& views)
{
  if constexpr (requires { typename RouterT::bias_space; }) {
    constexpr bool here =
        std::same_as<typename RouterT::bias_space, ExecT> || computes_nothing<ExecT>;
    check.that(here || router.bias.extent(0) == 0,
               "bias",
               "memory of another space",
               "memory of the space that the layer runs in");
    if constexpr (here) { views.add("", "bias", router.bias); }
  }
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

// y, dy or dx (T, D) beside x (T, D).
template <class ViewT, class XT>
void check_output(Check const& check, char const* name, ViewT const& y, XT const& x)
{
  check.equal({name, " rows"}, y.extent(0), "tokens", x.extent(0));
  check.equal({name, " columns"}, y.extent(1), "hidden", x.extent(1));
  check.not_null(name, y);
}

// (T, K), or empty where nobody asks for it.
template <class ViewT>
void check_given_gradient(
    Check const& check, ViewT const& d_given_weight, index_t tokens, int top_k, bool given)
{
  if (d_given_weight.empty()) { return; }
  check.that(given, "d_given_weight", "given", "empty unless the router is GivenRouting");
  check.equal("d_given_weight rows", d_given_weight.extent(0), "tokens", tokens);
  check.equal("d_given_weight columns", d_given_weight.extent(1), "top_k", top_k);
  check.not_null("d_given_weight", d_given_weight);
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
      check.fail<StateError>(field, was, joined({"made for this call's ", text_of(is)}));
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
