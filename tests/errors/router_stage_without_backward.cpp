// error: moe::Layer: a stage-level router has void route_backward(exec, in, logits, routing,
// d_weight, d_logits) const
#include "train.hpp"

struct Router : parts::StageRouter {
  void route_backward() const;
};
int main()
{
  parts::train(
      moe::Layer{Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}});
}
