// error: moe::Ffn: an activation has arity, a(z) and a.backward(z, d), see
// moe/expert/activation.hpp
#include "parts.hpp"

struct Activation : moe::Relu {
  void arity() const;
};
moe::Ffn<Activation> expert;
