// error: moe::Layer: an expert kernel has make_saved, make_carry and make_scratch<T>(exec, layout,
// rows) const for this element type and space
#include "train.hpp"

struct Expert : parts::Expert {
  void make_carry() const;
};
int main()
{
  parts::train(moe::Layer{parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, Expert{}});
}
