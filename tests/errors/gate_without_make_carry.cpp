// error: moe::Layer: a gate has make_saved and make_carry<T>(exec, layout, tokens) const for this
// element type and space, see moe/route/gate.hpp
#include "train.hpp"

struct Gate : parts::Gate {
  void make_carry() const;
};
int main()
{
  parts::train(moe::Layer{
      parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}, Gate{}});
}
