// Types that fail exactly one requirement of the expert kernel's contract are no models of it; all
// that the library brings are.
#include <moe/exec/host/primitives.hpp>
#include <moe/expert/ffn.hpp>

#include <doctest/doctest.h>

#include <type_traits>

using namespace moe;

namespace {

// What a kernel is made of, each part left out or bent by one flag.
enum class Miss {
  nothing,
  sizes_equality,     // Sizes that do not compare
  sizes_default,      // Sizes that cannot be made from nothing
  carve,              // Params without carve
  layout,             // Params without layout()
  layout_type,        // layout() that says Sizes alone
  make_saved,         // none
  make_saved_type,    // makes a Carry
  make_carry,         // none
  make_scratch,       // none
  scratch_pass,       // make_scratch that is not told the pass
  infer,              // none
  infer_saved,        // asks for Saved, which an infer pass does not make
  forward,            // none
  forward_result,     // returns something
  forward_index,      // rows as a plain view, so they would have to be copied
  backward_data,      // none
  backward_saved,     // changes what forward saved
  backward_weight,    // weights in the element type, half
  backward_d_weight,  // does not form d_weight
  backward_weights,   // none
  weights_params,     // backward_weights that wants the parameters again
  weights_result,     // only with a result
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
struct TestKernel {
  using Sizes  = TestSizes<miss>;
  using Layout = ExpertLayout<Sizes>;

  template <class T, class ExecT>
  struct Params {
    static Params carve(Carver<T, ExecT>&, Layout const&)
      requires(miss != Miss::carve);
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
  struct Scratch {};

  template <class T, class ExecT>
    requires(miss != Miss::make_saved)
  std::conditional_t<miss == Miss::make_saved_type, Carry<T, ExecT>, Saved<T, ExecT>> make_saved(
      ExecT const&, Layout const&, index_t) const;
  template <class T, class ExecT>
    requires(miss != Miss::make_carry)
  Carry<T, ExecT> make_carry(ExecT const&, Layout const&, index_t) const;
  template <class T, class ExecT>
    requires(miss != Miss::make_scratch && miss != Miss::scratch_pass)
  Scratch<T, ExecT> make_scratch(ExecT const&, Layout const&, index_t, Pass) const;
  template <class T, class ExecT>
    requires(miss == Miss::scratch_pass)
  Scratch<T, ExecT> make_scratch(ExecT const&, Layout const&, index_t) const;

  template <class T, class ExecT>
  using InferScratch =
      std::conditional_t<miss == Miss::infer_saved, Saved<T, ExecT>, Scratch<T, ExecT>>;
  template <class T, class ExecT>
  using ForwardRows = std::
      conditional_t<miss == Miss::forward_index, View<T const, 2, ExecT>, IndexedRows<T, ExecT>>;
  template <class T, class ExecT>
  using BackwardSaved =
      std::conditional_t<miss == Miss::backward_saved, Saved<T, ExecT>, Saved<T, ExecT> const>;
  template <class T>
  using Weight = std::conditional_t<miss == Miss::backward_weight, T, accumulator_t<T>>;

  template <class ExecT, class T>
    requires(miss != Miss::infer)
  void infer(ExecT const&,
             Params<T const, ExecT> const&,
             RowGroups<ExecT> const&,
             IndexedRows<T, ExecT> const&,
             InferScratch<T, ExecT>&,
             View<T, 2, ExecT>) const;
  template <class ExecT, class T>
    requires(miss != Miss::forward)
  std::conditional_t<miss == Miss::forward_result, int, void> forward(ExecT const&,
                                                                      Params<T const, ExecT> const&,
                                                                      RowGroups<ExecT> const&,
                                                                      ForwardRows<T, ExecT> const&,
                                                                      Saved<T, ExecT>&,
                                                                      Scratch<T, ExecT>&,
                                                                      View<T, 2, ExecT>) const;
  template <class ExecT, class T>
    requires(miss != Miss::backward_data && miss != Miss::backward_d_weight)
  void backward_data(ExecT const&,
                     Params<T const, ExecT> const&,
                     BackwardSaved<T, ExecT>&,
                     RowGroups<ExecT> const&,
                     IndexedRows<T, ExecT> const&,
                     IndexedRows<T, ExecT> const&,
                     View<Weight<T> const, 1, ExecT>,
                     Carry<T, ExecT>&,
                     View<T, 2, ExecT>,
                     View<accumulator_t<T>, 1, ExecT>) const;
  template <class ExecT, class T>
    requires(miss == Miss::backward_d_weight)
  void backward_data(ExecT const&,
                     Params<T const, ExecT> const&,
                     BackwardSaved<T, ExecT>&,
                     RowGroups<ExecT> const&,
                     IndexedRows<T, ExecT> const&,
                     IndexedRows<T, ExecT> const&,
                     View<Weight<T> const, 1, ExecT>,
                     Carry<T, ExecT>&,
                     View<T, 2, ExecT>) const;
  template <class ExecT, class T, class G>
    requires(miss != Miss::backward_weights && miss != Miss::weights_params &&
             miss != Miss::weights_result)
  void backward_weights(ExecT const&,
                        Saved<T, ExecT> const&,
                        RowGroups<ExecT> const&,
                        IndexedRows<T, ExecT> const&,
                        IndexedRows<T, ExecT> const&,
                        View<accumulator_t<T> const, 1, ExecT>,
                        Carry<T, ExecT>&,
                        Params<G, ExecT> const&) const;
  template <class ExecT, class T, class G>
    requires(miss == Miss::weights_result)
  void backward_weights(ExecT const&,
                        Saved<T, ExecT> const&,
                        RowGroups<ExecT> const&,
                        IndexedRows<T, ExecT> const&,
                        IndexedRows<T, ExecT> const&,
                        View<accumulator_t<T> const, 1, ExecT>,
                        Carry<T, ExecT>&,
                        Params<G, ExecT> const&,
                        Result) const;
  template <class ExecT, class T, class G>
    requires(miss == Miss::weights_params)
  void backward_weights(ExecT const&,
                        Params<T const, ExecT> const&,
                        Saved<T, ExecT> const&,
                        RowGroups<ExecT> const&,
                        IndexedRows<T, ExecT> const&,
                        IndexedRows<T, ExecT> const&,
                        View<accumulator_t<T> const, 1, ExecT>,
                        Carry<T, ExecT>&,
                        Params<G, ExecT> const&) const;
};

// Which of the seven parts of the contract hold.
struct Parts {
  bool sizes, params, saved, infer, forward, backward_data, backward_weights;
  friend constexpr bool operator==(Parts const&, Parts const&) = default;
};
template <Miss miss, class T = Half>
constexpr Parts parts = {HasSizes<TestKernel<miss>>,
                         HasParams<TestKernel<miss>, T, Host>,
                         HasSaved<TestKernel<miss>, T, Host>,
                         HasExpertInfer<TestKernel<miss>, T, Host>,
                         HasExpertForward<TestKernel<miss>, T, Host>,
                         HasExpertBackwardData<TestKernel<miss>, T, Host>,
                         HasExpertBackwardWeights<TestKernel<miss>, T, Host>};

// No kernel, and for that one part alone.
template <Miss miss, class T = Half>
constexpr bool misses(Parts expected)
{
  return parts<miss, T> == expected && !ExpertKernel<TestKernel<miss>, T, Host>;
}

constexpr Parts no_sizes{false, true, true, true, true, true, true};
constexpr Parts no_params{true, false, true, true, true, true, true};
constexpr Parts no_saved{true, true, false, true, true, true, true};
constexpr Parts no_infer{true, true, true, false, true, true, true};
constexpr Parts no_forward{true, true, true, true, false, true, true};
constexpr Parts no_backward_data{true, true, true, true, true, false, true};
constexpr Parts no_backward_weights{true, true, true, true, true, true, false};
static_assert(ExpertKernel<TestKernel<Miss::nothing>, Half, Host>);
static_assert(ExpertKernel<TestKernel<Miss::nothing>, double, Host>);
static_assert(misses<Miss::sizes_equality>(no_sizes));
static_assert(misses<Miss::sizes_default>(no_sizes));
static_assert(misses<Miss::carve>(no_params));
static_assert(misses<Miss::layout>(no_params));
static_assert(misses<Miss::layout_type>(no_params));
static_assert(misses<Miss::make_saved>(no_saved));
static_assert(misses<Miss::make_saved_type>(no_saved));
static_assert(misses<Miss::make_carry>(no_saved));
static_assert(misses<Miss::make_scratch>(no_saved));
static_assert(misses<Miss::scratch_pass>(no_saved));
static_assert(misses<Miss::infer>(no_infer));
static_assert(misses<Miss::infer_saved>(no_infer));
static_assert(misses<Miss::forward>(no_forward));
static_assert(misses<Miss::forward_result>(no_forward));
static_assert(misses<Miss::forward_index>(no_forward));
static_assert(misses<Miss::backward_data>(no_backward_data));
static_assert(misses<Miss::backward_saved>(no_backward_data));
static_assert(misses<Miss::backward_weight>(no_backward_data));
static_assert(misses<Miss::backward_d_weight>(no_backward_data));
static_assert(misses<Miss::backward_weights>(no_backward_weights));
static_assert(misses<Miss::weights_params>(no_backward_weights));
static_assert(misses<Miss::weights_result>(no_backward_weights));
// What it may do beside.
static_assert(OverwritesWeights<Ffn<SwiGlu, with_bias>, Half, Host>);
static_assert(OverwritesWeights<TestKernel<Miss::weights_result>, Half, Host>);
static_assert(!OverwritesWeights<TestKernel<Miss::nothing>, Half, Host>);
// In float the element type is that of the weights.
static_assert(ExpertKernel<TestKernel<Miss::backward_weight>, float, Host>);

template <class X>
constexpr bool is_kernel = ExpertKernel<X, float, Host> && ExpertKernel<X, double, Host> &&
                           ExpertKernel<X, Half, Host> && ExpertKernel<X, BFloat16, Host>;
static_assert(is_kernel<Ffn<Relu>> && is_kernel<Ffn<SquaredRelu, with_bias>>);
static_assert(is_kernel<Ffn<Gelu>> && is_kernel<Ffn<Silu, with_bias>>);
static_assert(is_kernel<Ffn<SwiGlu>> && is_kernel<Ffn<SwiGlu, with_bias>>);
static_assert(is_kernel<Ffn<GeGlu>> && is_kernel<Ffn<ClampedGlu, with_bias>>);
static_assert(!ExpertKernel<SwiGlu, float, Host> && !ExpertKernel<int, float, Host>);

}  // namespace

TEST_CASE("a kernel and its parameters travel as one")
{
  BoundExperts const bound{Ffn<ClampedGlu>{.activation = {.limit = 3}}, 5};
  static_assert(std::is_same_v<decltype(bound), BoundExperts<Ffn<ClampedGlu>, int> const>);
  CHECK(bound.kernel.activation.limit == 3);
  CHECK(bound.params == 5);
}
