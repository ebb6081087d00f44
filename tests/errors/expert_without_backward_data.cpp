// error: moe::Layer: an expert kernel has void backward_data(exec, params, saved, groups, x, dy,
// weight, carry, dx, d_weight) const for this element type and space
#include "train.hpp"

struct Expert : parts::Expert {
  void backward_data() const;
};
int main()
{
  parts::train(moe::Layer{parts::Router{}, moe::Dropless{}, moe::SerialDispatcher{}, Expert{}});
}
