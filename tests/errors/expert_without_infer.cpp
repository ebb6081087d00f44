// error: moe::Layer: an expert kernel has void infer(exec, params, groups, x, scratch, out) const
// for this element type and space
#include "train.hpp"

struct Expert : parts::Expert {
  void infer() const;
};
int main()
{
  parts::train(moe::Layer{parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, Expert{}});
}
