// compiles
#include <moe/route/noisy_top_k_router.hpp>
#include <moe/route/scored_router.hpp>
#include <moe/route/top_k_softmax_router.hpp>

#include "train.hpp"

int main()
{
  auto const train_with = [](auto const& router) {
    parts::train(moe::Layer{router, moe::Dropless{}, moe::SerialDispatcher{}, parts::Expert{}});
  };
  train_with(moe::SwitchRouter{});
  train_with(moe::SigmoidTopK<1, moe::unnormalized>{});
  train_with(moe::SoftmaxTopK<2, moe::renormalized>{});
  train_with(moe::TopKSoftmax<2>{});
  train_with(moe::NoisyTopK<2>{});
  train_with(moe::RenormalizeKept{moe::SoftmaxTopK<2>{}});
  train_with(moe::SoftmaxTopK<32>{});
}
