// Types that fail exactly one requirement of the gate's contract are no models of it; all that the
// library brings are.
#include <moe/exec/host/primitives.hpp>
#include <moe/route/cosine_gate.hpp>
#include <moe/route/linear_gate.hpp>
#include <moe/route/low_rank_gate.hpp>
#include <moe/route/no_gate.hpp>
#include <moe/route/tempered_gate.hpp>

#include <doctest/doctest.h>

#include <type_traits>

using namespace moe;

namespace {

// What a gate is made of, each part left out or bent by one flag.
enum class Miss {
  nothing,
  kind,             // another kind
  sizes_equality,   // Sizes that do not compare
  sizes_default,    // Sizes that cannot be made from nothing
  carve,            // Params without carve
  carve_sizes,      // carve from Sizes alone
  layout,           // Params without layout()
  layout_type,      // layout() that says Sizes alone
  make_saved,       // none
  make_saved_type,  // makes a Carry
  make_carry,       // none
  forward,          // none
  forward_not_const,
  forward_result,    // returns something
  forward_logits,    // logits in the element type, half
  backward_data,     // none
  backward_saved,    // changes what forward saved
  backward_dx,       // dx in the element type, half
  backward_weights,  // none
};

template <Miss miss>
struct TestSizes {
  int n                                                      = 0;
  friend bool operator==(TestSizes const&, TestSizes const&) = default;
};
template <>
struct TestSizes<Miss::sizes_equality> {};
template <>
struct TestSizes<Miss::sizes_default> {
  explicit TestSizes(int) {}
  [[maybe_unused]] friend bool operator==(TestSizes const&, TestSizes const&) = default;
};

template <Miss miss>
struct TestGate {
  using kind   = std::conditional_t<miss == Miss::kind, int, gate_kind>;
  using Sizes  = TestSizes<miss>;
  using Layout = GateLayout<Sizes>;

  template <class T, class ExecT>
  struct Params {
    static Params carve(Carver<T, ExecT>&, Layout const&)
      requires(miss != Miss::carve && miss != Miss::carve_sizes);
    static Params carve(Carver<T, ExecT>&, Sizes const&)
      requires(miss == Miss::carve_sizes);
    Layout layout() const
      requires(miss != Miss::layout && miss != Miss::layout_type);
    Sizes layout() const
      requires(miss == Miss::layout_type);
  };
  template <class T, class ExecT>
  struct Saved {};
  template <class T, class ExecT>
  struct Carry {};

  template <class T, class ExecT>
    requires(miss != Miss::make_saved)
  std::conditional_t<miss == Miss::make_saved_type, Carry<T, ExecT>, Saved<T, ExecT>> make_saved(
      ExecT const&, Layout const&, index_t) const;
  template <class T, class ExecT>
    requires(miss != Miss::make_carry)
  Carry<T, ExecT> make_carry(ExecT const&, Layout const&, index_t) const;

  template <class T>
  using Logit = std::conditional_t<miss == Miss::forward_logits, T, accumulator_t<T>>;
  template <class T>
  using DataGradient = std::conditional_t<miss == Miss::backward_dx, T, accumulator_t<T>>;
  template <class T, class ExecT>
  using BackwardSaved =
      std::conditional_t<miss == Miss::backward_saved, Saved<T, ExecT>, Saved<T, ExecT> const>;

  template <class ExecT, class T>
    requires(miss != Miss::forward && miss != Miss::forward_not_const)
  std::conditional_t<miss == Miss::forward_result, int, void> forward(
      ExecT const&,
      Params<T const, ExecT> const&,
      View<StepState const, 1, ExecT>,
      View<T const, 2, ExecT>,
      Saved<T, ExecT>&,
      View<Logit<T>, 2, ExecT>) const;
  template <class ExecT, class T>
    requires(miss == Miss::forward_not_const)
  void forward(ExecT const&,
               Params<T const, ExecT> const&,
               View<StepState const, 1, ExecT>,
               View<T const, 2, ExecT>,
               Saved<T, ExecT>&,
               View<Logit<T>, 2, ExecT>);
  template <class ExecT, class T>
    requires(miss != Miss::backward_data)
  void backward_data(ExecT const&,
                     Params<T const, ExecT> const&,
                     BackwardSaved<T, ExecT>&,
                     View<StepState const, 1, ExecT>,
                     View<T const, 2, ExecT>,
                     View<accumulator_t<T> const, 2, ExecT>,
                     Carry<T, ExecT>&,
                     View<DataGradient<T>, 2, ExecT>) const;
  template <class ExecT, class T, class G>
    requires(miss != Miss::backward_weights)
  void backward_weights(ExecT const&,
                        Params<T const, ExecT> const&,
                        Saved<T, ExecT> const&,
                        View<StepState const, 1, ExecT>,
                        View<T const, 2, ExecT>,
                        View<accumulator_t<T> const, 2, ExecT>,
                        Carry<T, ExecT>&,
                        Params<G, ExecT> const&) const;
};

// Which of the six parts of the contract hold.
struct Parts {
  bool kind, sizes, params, saved, forward, backward;
  friend constexpr bool operator==(Parts const&, Parts const&) = default;
};
template <Miss miss, class T = Half>
constexpr Parts parts = {HasGateKind<TestGate<miss>>,
                         HasGateSizes<TestGate<miss>>,
                         HasGateParams<TestGate<miss>, T, Host>,
                         HasGateSaved<TestGate<miss>, T, Host>,
                         HasGateForward<TestGate<miss>, T, Host>,
                         HasGateBackward<TestGate<miss>, T, Host>};

// No gate, and for that one part alone.
template <Miss miss, class T = Half>
constexpr bool misses(Parts expected)
{
  return parts<miss, T> == expected && !Gate<TestGate<miss>, T, Host>;
}

static_assert(Gate<TestGate<Miss::nothing>, Half, Host>);
static_assert(Gate<TestGate<Miss::nothing>, double, Host>);
static_assert(misses<Miss::kind>({.kind     = false,
                                  .sizes    = true,
                                  .params   = true,
                                  .saved    = true,
                                  .forward  = true,
                                  .backward = true}));

constexpr Parts no_sizes{true, false, true, true, true, true};
constexpr Parts no_params{true, true, false, true, true, true};
constexpr Parts no_saved{true, true, true, false, true, true};
constexpr Parts no_forward{true, true, true, true, false, true};
constexpr Parts no_backward{true, true, true, true, true, false};
static_assert(misses<Miss::sizes_equality>(no_sizes));
static_assert(misses<Miss::sizes_default>(no_sizes));
static_assert(misses<Miss::carve>(no_params));
static_assert(misses<Miss::carve_sizes>(no_params));
static_assert(misses<Miss::layout>(no_params));
static_assert(misses<Miss::layout_type>(no_params));
static_assert(misses<Miss::make_saved>(no_saved));
static_assert(misses<Miss::make_saved_type>(no_saved));
static_assert(misses<Miss::make_carry>(no_saved));
static_assert(misses<Miss::forward>(no_forward));
static_assert(misses<Miss::forward_not_const>(no_forward));
static_assert(misses<Miss::forward_result>(no_forward));
static_assert(misses<Miss::forward_logits>(no_forward));
static_assert(misses<Miss::backward_data>(no_backward));
static_assert(misses<Miss::backward_saved>(no_backward));
static_assert(misses<Miss::backward_dx>(no_backward));
static_assert(misses<Miss::backward_weights>(no_backward));
// In float the element type is that of logits and dx.
static_assert(Gate<TestGate<Miss::forward_logits>, float, Host>);
static_assert(Gate<TestGate<Miss::backward_dx>, float, Host>);

template <class GateT>
constexpr bool is_gate = Gate<GateT, float, Host> && Gate<GateT, double, Host> &&
                         Gate<GateT, Half, Host> && Gate<GateT, BFloat16, Host>;
static_assert(is_gate<LinearGate> && is_gate<BiasedLinearGate> && is_gate<LowRankGate>);
static_assert(is_gate<CosineGate> && is_gate<NoGate>);
static_assert(is_gate<TemperedGate<LinearGate>> && is_gate<TemperedGate<CosineGate>>);
static_assert(is_gate<TemperedGate<TemperedGate<LowRankGate>>>);
static_assert(!Gate<StepState, float, Host> && !HasGateKind<int>);

}  // namespace

TEST_CASE("a tempered gate can be made from the gate alone")
{
  auto const tempered = TemperedGate{LowRankGate{}};
  static_assert(std::is_same_v<decltype(tempered), TemperedGate<LowRankGate> const>);
  CHECK(LowRankGate::Sizes{3} == decltype(tempered)::Sizes{3});
}
