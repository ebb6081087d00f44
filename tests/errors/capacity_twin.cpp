// compiles
#include <moe/plan/drop_policy.hpp>
#include <moe/route/expert_choice_router.hpp>

#include "train.hpp"

struct Capacity : moe::DropByPosition<> {};

int main()
{
  auto const train_with = [](auto const& router, auto const& capacity, auto const& dispatcher) {
    parts::train(moe::Layer{router, capacity, dispatcher, parts::Expert{}});
  };
  train_with(parts::Router{}, Capacity{}, moe::BatchedDispatcher<moe::PaddedSchedule>{});
  train_with(parts::Router{}, moe::Dropless{}, moe::BatchedDispatcher<moe::BatchedSchedule>{});
  train_with(moe::ExpertChoice{}, moe::Dropless{}, moe::SerialDispatcher{});
}
