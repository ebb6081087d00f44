// Types that fail exactly one requirement of the activation's contract are no models of it; all
// that the library brings are.
#include <moe/expert/ffn.hpp>

#include <doctest/doctest.h>

#include <functional>

using namespace moe;

namespace {

struct Good {
  static constexpr int arity = 1;
  template <RoutingScalar S>
  S operator()(Array<S, 1> z) const
  {
    return 3 * z[0];
  }
  template <RoutingScalar S>
  Array<S, 1> backward(Array<S, 1>, S d) const
  {
    return {{3 * d}};
  }
};
static_assert(Activation<Good>);

struct OwnsMemory : Good {
  std::function<float(float)> table;  // kernels take activations by value
};
static_assert(HasArity<OwnsMemory> && HasActivationValue<OwnsMemory> &&
              HasActivationBackward<OwnsMemory>);
static_assert(!Activation<OwnsMemory>);

struct NoArity {
  template <RoutingScalar S>
  S operator()(Array<S, 1> z) const;
  template <RoutingScalar S>
  Array<S, 1> backward(Array<S, 1>, S d) const;
};
static_assert(!HasArity<NoArity> && !Activation<NoArity>);

template <int N>
struct AnyArity {
  static constexpr int arity = N;
  template <RoutingScalar S>
  S operator()(Array<S, N> z) const;
  template <RoutingScalar S>
  Array<S, N> backward(Array<S, N>, S d) const;
};
static_assert(Activation<AnyArity<1>> && Activation<AnyArity<2>>);
static_assert(!HasArity<AnyArity<0>> && !Activation<AnyArity<0>>);
static_assert(HasActivationValue<AnyArity<3>> && HasActivationBackward<AnyArity<3>> &&
              !HasArity<AnyArity<3>> && !Activation<AnyArity<3>>);

struct NoValue {
  static constexpr int arity = 1;
  template <RoutingScalar S>
  Array<S, 1> backward(Array<S, 1>, S d) const;
};
static_assert(HasActivationBackward<NoValue> && !HasActivationValue<NoValue> &&
              !Activation<NoValue>);

struct ValueInDouble : Good {
  template <RoutingScalar S>
  double operator()(Array<S, 1> z) const;
};
static_assert(HasActivationBackward<ValueInDouble> && !HasActivationValue<ValueInDouble> &&
              !Activation<ValueInDouble>);

struct ValueNotConst : Good {
  template <RoutingScalar S>
  S operator()(Array<S, 1> z);
};
static_assert(!HasActivationValue<ValueNotConst> && !Activation<ValueNotConst>);

struct ValueOfTheOtherArity {  // says 2, reads 1
  static constexpr int arity = 2;
  template <RoutingScalar S>
  S operator()(Array<S, 1> z) const;
  template <RoutingScalar S>
  Array<S, 2> backward(Array<S, 2>, S d) const;
};
static_assert(HasArity<ValueOfTheOtherArity> && HasActivationBackward<ValueOfTheOtherArity> &&
              !HasActivationValue<ValueOfTheOtherArity> && !Activation<ValueOfTheOtherArity>);

struct NoBackward {
  static constexpr int arity = 1;
  template <RoutingScalar S>
  S operator()(Array<S, 1> z) const;
};
static_assert(HasActivationValue<NoBackward> && !HasActivationBackward<NoBackward> &&
              !Activation<NoBackward>);

struct BackwardOfOneForTwo {  // gradients of both arguments are wanted
  static constexpr int arity = 2;
  template <RoutingScalar S>
  S operator()(Array<S, 2> z) const;
  template <RoutingScalar S>
  Array<S, 1> backward(Array<S, 2>, S d) const;
};
static_assert(HasActivationValue<BackwardOfOneForTwo> &&
              !HasActivationBackward<BackwardOfOneForTwo> && !Activation<BackwardOfOneForTwo>);

static_assert(Activation<Relu> && Activation<SquaredRelu> && Activation<Gelu> && Activation<Silu>);
static_assert(Activation<SwiGlu> && Activation<GeGlu> && Activation<Glu<Relu>>);
static_assert(Activation<ClampedGlu>);
static_assert(!Activation<Ffn<Relu>> && !Activation<int>);

}  // namespace

TEST_CASE("an activation by the contract goes into an FFN and a gated unit")
{
  CHECK(Ffn<Good>{}.activation(Array<float, 1>{{2}}) == 6);
  CHECK(Glu<Good>{}(Array<float, 2>{{2, 5}}) == 30);
  CHECK(Glu<Good>{}.backward(Array<float, 2>{{2, 5}}, 1.f) == Array<float, 2>{{15, 6}});
}
