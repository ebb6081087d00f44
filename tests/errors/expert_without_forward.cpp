// error: moe::Layer: an expert kernel has void forward(exec, params, groups, x, saved, scratch,
// out) const for this element type and space
#include "train.hpp"

struct Expert : parts::Expert {
  void forward() const;
};
int main()
{
  parts::train(moe::Layer{parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, Expert{}});
}
