#pragma once
// The policies that layers are composed of in tests of pairs and products, by number.
#include <moe/moe.hpp>

#include <array>
#include <string>
#include <tuple>

namespace moe::test {

// For six experts: moves the selection away from the scores.
inline constexpr std::array<float, 6> selection_bias{0.3f, -0.2f, 0.1f, 0, -0.4f, 0.2f};
inline View<float const, 1, Host> selection_bias_view()
{
  return View<float const, 1, Host>(selection_bias.data(), index_t{6});
}

inline auto const routers = std::tuple{
    SoftmaxTopK<2, renormalized>{},
    SoftmaxTopK<2>{.scale = 1.5},
    SigmoidTopK<3, renormalized, group_limited<top2_sum>>{.scale   = 2.5,
                                                          .epsilon = 1e-2,
                                                          .bias    = selection_bias_view(),
                                                          .group   = {.groups = 3, .kept = 2}},
    TopKSoftmax<2>{},
    SwitchRouter{},
    NoisyTopK<2>{},
    RenormalizeKept{SoftmaxTopK<3>{}},
    GivenRouting<2>{},
    ExpertChoice{.factor = 1.5},
    SqrtSoftplusTopK<2, renormalized>{}};
inline constexpr int given_router = 7, expert_choice_router = 8;
inline constexpr int routers_in_product = 8;  // expert choice takes no capacity policy

inline auto const capacities = std::tuple{Dropless{},
                                          DropByPosition{CeilCapacity{.factor = 0.7}},
                                          DropByWeight{CeilCapacity{.factor = 0.7}},
                                          DropByTokenPriority{CeilCapacity{.factor = 0.7}}};

inline auto const dispatchers =
    std::tuple{SerialDispatcher{}, BatchedDispatcher<>{}, BatchedDispatcher<BatchedSchedule>{}};

inline auto const experts = std::tuple{Ffn<SwiGlu>{},
                                       Ffn<Relu, with_bias>{},
                                       Ffn<SquaredRelu>{},
                                       Ffn<Gelu, with_bias>{},
                                       Ffn<Silu>{},
                                       Ffn<GeGlu>{},
                                       Ffn<ClampedGlu, with_bias>{.activation = {.limit = 0.5}}};

// What a layer may do without is a tuple of none, one or several.
inline auto const gates = std::tuple{std::tuple{},  // LinearGate, or none with GivenRouting
                                     std::tuple{BiasedLinearGate{}},
                                     std::tuple{LowRankGate{}},
                                     std::tuple{CosineGate{}},
                                     std::tuple{TemperedGate{LinearGate{}}}};
inline auto const shared_experts =
    std::tuple{std::tuple{},
               std::tuple{SharedExpert<Ffn<SwiGlu>>{}},
               std::tuple{SharedExpert<Ffn<Gelu, with_bias>, sigmoid_gated>{}}};
inline auto const losses =
    std::tuple{std::tuple{},
               std::tuple{SwitchLoss{.coeff = 2}},
               std::tuple{GShardLoss{.coeff = 2}},
               std::tuple{MiniMindSequenceLoss{.coeff = 2}},
               std::tuple{DeepSeekSequenceLoss{.coeff = 2}},
               std::tuple{RouterZLoss{.coeff = 0.3}},
               std::tuple{MixtralLoss{.coeff = 1}, RouterZLoss{.coeff = 0.2}}};

// One number per factor.
struct Composition {
  int router = 0, capacity = 0, dispatcher = 0, expert = 0, gate = 0, shared = 0, loss = 0;

  [[nodiscard]] constexpr std::array<int, 7> numbers() const
  {
    return {router, capacity, dispatcher, expert, gate, shared, loss};
  }
  [[nodiscard]] std::string name() const
  {
    std::string result = "router, capacity, dispatcher, expert, gate, shared, loss:";
    for (int const i : numbers()) {
      result += " " + std::to_string(i);
    }
    return result;
  }
};
inline constexpr std::array<int, 7> policy_counts{10, 4, 3, 7, 5, 3, 7};
static_assert(policy_counts ==
              std::array<int, 7>{static_cast<int>(std::tuple_size_v<decltype(routers)>),
                                 static_cast<int>(std::tuple_size_v<decltype(capacities)>),
                                 static_cast<int>(std::tuple_size_v<decltype(dispatchers)>),
                                 static_cast<int>(std::tuple_size_v<decltype(experts)>),
                                 static_cast<int>(std::tuple_size_v<decltype(gates)>),
                                 static_cast<int>(std::tuple_size_v<decltype(shared_experts)>),
                                 static_cast<int>(std::tuple_size_v<decltype(losses)>)});

template <Composition C>
[[nodiscard]] auto compose()
{
  return std::apply(
      [](auto... extras) {
        return Layer{std::get<C.router>(routers),
                     std::get<C.capacity>(capacities),
                     std::get<C.dispatcher>(dispatchers),
                     std::get<C.expert>(experts),
                     extras...};
      },
      std::tuple_cat(
          std::get<C.gate>(gates), std::get<C.shared>(shared_experts), std::get<C.loss>(losses)));
}

// What there is no layer of: GivenRouting has no logits for a gate and losses to work with, and
// ExpertChoice fills experts to a capacity of its own.
[[nodiscard]] constexpr bool excluded_pair(int factor_a, int a, int factor_b, int b)
{
  bool const given =
      factor_a == 0 && a == given_router && (factor_b == 4 || factor_b == 6) && b != 0;
  bool const fills = factor_a == 0 && a == expert_choice_router && factor_b == 1 && b != 0;
  return given || fills;
}

}  // namespace moe::test
