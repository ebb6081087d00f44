#pragma once
// What a composition must be: one sentence per requirement, at the one place where users compose.
#include <moe/layer_types.hpp>

namespace moe::detail {

template <class R>
concept IsStage = NamesStage<R>;

template <class R>
concept FillsExperts = R::fills_experts;  // decides itself how many rows an expert gets

template <class X>
concept OfAnyKind = OfKind<X, gate_kind> || OfKind<X, shared_kind> || OfKind<X, loss_kind>;

template <class RouterT, class CapacityT, class DispatcherT, class ExpertT, class... ExtraTs>
struct LayerRequirements {
  static_assert(IsStage<RouterT> || HasTopK<RouterT>,
                "moe::Layer: a router has static constexpr int top_k in 1 ... 32");
  static_assert(IsStage<RouterT> || HasRoute<RouterT>,
                "moe::Layer: a router has Choice<top_k, S> route(team, context, logits) const");
  static_assert(
      IsStage<RouterT> || HasRouteBackward<RouterT>,
      "moe::Layer: a router has void route_backward(team, context, logits, choice, d_weight, "
      "d_logits) const");
  static_assert(std::is_trivially_copyable_v<RouterT>,
                "moe::Layer: a router is trivially copyable, since kernels take it by value");
  static_assert(NamesBound<CapacityT>,
                "moe::Layer: a capacity policy has static constexpr bool bounded");
  static_assert(
      CapacityPolicy<CapacityT>,
      "moe::Layer: a bounded capacity policy has slots, slots_bound, needs_loads and claim, see "
      "moe/plan/capacity_policy.hpp");
  static_assert(
      !DispatcherT::needs_capacity || CapacityT::bounded,
      "moe::Layer: Dropless has no capacity to pad to, use BatchedDispatcher<BatchedSchedule> or a "
      "bounded capacity policy");
  static_assert(
      !FillsExperts<RouterT> || !CapacityT::bounded,
      "moe::Layer: ExpertChoice fills every expert to its own capacity, compose it with Dropless");
  static_assert(HasCommunicator<DispatcherT>,
                "moe::Layer: a dispatcher has communicator(), see moe/dispatch/dispatcher.hpp");
  static_assert(HasSizes<ExpertT>,
                "moe::Layer: an expert kernel has a type Sizes, see moe/expert/expert_kernel.hpp");
  static_assert(
      (OfAnyKind<ExtraTs> && ...),
      "moe::Layer: after the expert come a gate, a shared expert or losses; each names its kind");
  static_assert(((!OfKind<ExtraTs, loss_kind> || HasRowLoss<ExtraTs>) && ...),
                "moe::Layer: a loss has S row_loss(team, LossRow<S>) const");
  static_assert(
      ((!OfKind<ExtraTs, loss_kind> || HasRowLossBackward<ExtraTs>) && ...),
      "moe::Layer: a loss has void row_loss_backward(team, LossRow<S>, d_loss, d_logits) const");
  static_assert(
      ((!OfKind<ExtraTs, loss_kind> || NamesItsLoad<ExtraTs>) && ...),
      "moe::Layer: a loss names static constexpr LoadScope scope and LoadChoices choices");
  static_assert(count_kind<gate_kind, ExtraTs...> <= 1, "moe::Layer: one gate at most");
  static_assert(count_kind<shared_kind, ExtraTs...> <= 1, "moe::Layer: one shared expert at most");
  static_assert(!IsGiven<RouterT> || count_kind<gate_kind, ExtraTs...> == 0,
                "moe::Layer: GivenRouting has no logits, so it takes no gate");
  static_assert(
      !IsGiven<RouterT> || count_kind<loss_kind, ExtraTs...> == 0,
      "moe::Layer: GivenRouting has no logits, so losses on them have nothing to work on");
};

}  // namespace moe::detail
