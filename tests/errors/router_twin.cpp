// compiles
#include <moe/route/scored_router.hpp>

#include "train.hpp"

int main()
{
  auto const train_with = [](auto const& router) {
    parts::train(moe::Layer{router, moe::Dropless{}, moe::SerialDispatcher{}, parts::Expert{}});
  };
  train_with(parts::Router{});
  train_with(parts::StageRouter{});
  train_with(moe::SigmoidTopK<2, moe::renormalized, moe::ungrouped, moe::Host>{});
}
