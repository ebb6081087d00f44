// error: moe::Ffn: an activation has arity, a(z) and a.backward(z, d), see
// moe/expert/activation.hpp
#include "parts.hpp"

struct Activation {
  static constexpr int arity = 1;
  template <moe::RoutingScalar S>
  S operator()(moe::Array<S, 1> z) const
  {
    return z[0];
  }
};
moe::Ffn<Activation> expert;
