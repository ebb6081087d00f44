// error: moe::Layer: a stage-level router has void route(exec, comm, in, logits, routing) const
#include "train.hpp"

struct Router : parts::StageRouter {
  void route() const;
};
int main()
{
  parts::train(
      moe::Layer{Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}});
}
