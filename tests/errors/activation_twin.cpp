// compiles
#include "train.hpp"

struct Activation {
  static constexpr int arity = 1;
  template <moe::RoutingScalar S>
  S operator()(moe::Array<S, 1> z) const
  {
    return z[0];
  }
  template <moe::RoutingScalar S>
  moe::Array<S, 1> backward(moe::Array<S, 1>, S d) const
  {
    return {{d}};
  }
};

int main()
{
  parts::train(moe::Layer{
      parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<Activation>{}});
  moe::Ffn<moe::Glu<Activation>> bilinear;
}
