// error: moe::Layer: the router's selection bias lies in another space than the layer runs in: name
// that space as its last template argument
#include <moe/route/scored_router.hpp>

#include "train.hpp"

using Router = moe::SigmoidTopK<2, moe::renormalized, moe::ungrouped, parts::Device>;
int main()
{
  parts::train(
      moe::Layer{Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}});
}
