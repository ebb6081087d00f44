#pragma once
// What a composition must be: one sentence per requirement, at the one place where users compose;
// and what its parts must be for an element type and a space, where the layer is called.
#include <moe/layer/types.hpp>

namespace moe::detail {

template <class R>
concept FillsExperts = R::fills_experts;  // decides itself how many rows an expert gets

template <class X>
concept OfAnyKind = OfKind<X, gate_kind> || OfKind<X, shared_kind> || OfKind<X, loss_kind> ||
                    std::same_as<X, ReproducibleReduction>;

template <class X, class Kind, bool Holds>
inline constexpr bool unless_of_kind = !OfKind<X, Kind> || Holds;

// Types of any element type and space, or of a kernel too, that a part must name.
template <template <class, class> class>
struct NameOfTwo {};
template <template <class, class, class> class>
struct NameOfThree {};

template <class X>
concept NamesState = requires {
  typename NameOfTwo<X::template Params>;
  typename NameOfTwo<X::template Saved>;
  typename NameOfTwo<X::template Carry>;
};
template <class X>
concept NamesScratch = requires { typename NameOfTwo<X::template Scratch>; };
template <class D>
concept NamesDispatchState = requires {
  typename NameOfThree<D::template Saved>;
  typename NameOfThree<D::template Work>;
};

// The first instantiation that a layer needs, so that nothing else complains before it.
template <class RouterT, class CapacityT, class DispatcherT, class ExpertT, class... ExtraTs>
struct LayerRequirements {
  static_assert(NamesStage<RouterT> || HasTopK<RouterT>,
                "moe::Layer: a router has static constexpr int top_k in 1 ... 32");
  static_assert(NamesStage<RouterT> || HasRoute<RouterT>,
                "moe::Layer: a router has Choice<top_k, S> route(team, context, logits) const");
  static_assert(
      NamesStage<RouterT> || HasRouteBackward<RouterT>,
      "moe::Layer: a router has void route_backward(team, context, logits, choice, d_weight, "
      "d_logits) const");
  static_assert(!NamesStage<RouterT> || HasAssignments<RouterT>,
                "moe::Layer: a stage-level router has index_t assignments(tokens, experts) const");
  static_assert(std::is_trivially_copyable_v<RouterT>,
                "moe::Layer: a router is trivially copyable, since kernels take it by value: let "
                "it hold a View");
  static_assert(NamesBound<CapacityT>,
                "moe::Layer: a capacity policy has static constexpr bool bounded");
  static_assert(
      CapacityPolicy<CapacityT>,
      "moe::Layer: a bounded capacity policy has slots, slots_bound, needs_loads and claim, see "
      "moe/plan/capacity_policy.hpp");
  static_assert(
      !NeedsCapacity<DispatcherT> || CapacityT::bounded,
      "moe::Layer: Dropless has no capacity to pad to, use BatchedDispatcher<BatchedSchedule> or a "
      "bounded capacity policy");
  static_assert(!NeedsCapacity<DispatcherT> || !SharesSlots<CapacityT>,
                "moe::Layer: with RankCapacity no expert has slots of its own to pad to, use "
                "BatchedDispatcher<BatchedSchedule>");
  static_assert(
      !FillsExperts<RouterT> || !CapacityT::bounded,
      "moe::Layer: ExpertChoice fills every expert to its own capacity, compose it with Dropless");
  static_assert(HasCommunicator<DispatcherT>,
                "moe::Layer: a dispatcher has communicator(), see moe/dispatch/dispatcher.hpp");
  static_assert(HasSlotLayout<DispatcherT, CapacityT>,
                "moe::Layer: a dispatcher has static constexpr SlotLayout layout<CapacityT>, see "
                "moe/dispatch/dispatcher.hpp");
  static_assert(NamesDispatchState<DispatcherT>,
                "moe::Layer: a dispatcher has the templates Saved and Work of <T, ExecT, KernelT>, "
                "see moe/dispatch/dispatcher.hpp");
  static_assert(HasSizes<ExpertT>,
                "moe::Layer: an expert kernel has a type Sizes that can be compared, see "
                "moe/expert/expert_kernel.hpp");
  static_assert(NamesState<ExpertT> && NamesScratch<ExpertT>,
                "moe::Layer: an expert kernel has the templates Params, Saved, Scratch and Carry "
                "of <T, ExecT>, see moe/expert/expert_kernel.hpp");
  static_assert(
      (OfAnyKind<ExtraTs> && ...),
      "moe::Layer: after the expert come a gate, a shared expert, losses or "
      "ReproducibleReduction; each names its kind");
  static_assert(
      (unless_of_kind < ExtraTs, gate_kind, HasGateSizes<ExtraTs>&& NamesState < ExtraTs >> &&...),
      "moe::Layer: a gate has Sizes and the templates Params, Saved and Carry of <T, ExecT>, see "
      "moe/route/gate.hpp");
  static_assert((unless_of_kind<ExtraTs, loss_kind, HasRowLoss<ExtraTs>> && ...),
                "moe::Layer: a loss has S row_loss(team, LossRow<S>) const");
  static_assert(
      (unless_of_kind<ExtraTs, loss_kind, HasRowLossBackward<ExtraTs>> && ...),
      "moe::Layer: a loss has void row_loss_backward(team, LossRow<S>, d_loss, d_logits) const");
  static_assert(
      (unless_of_kind<ExtraTs, loss_kind, NamesItsLoad<ExtraTs>> && ...),
      "moe::Layer: a loss names static constexpr LoadScope scope and LoadChoices choices");
  static_assert((unless_of_kind<ExtraTs, loss_kind, std::is_trivially_copyable_v<ExtraTs>> && ...),
                "moe::Layer: a loss is trivially copyable, since kernels take it by value");
  static_assert(count_kind<gate_kind, ExtraTs...> <= 1, "moe::Layer: one gate at most");
  static_assert(count_kind<shared_kind, ExtraTs...> <= 1,
                "moe::Layer: one shared expert at most; give it a larger ffn instead");
  static_assert(count_kind<reduction_kind, ExtraTs...> <= 1, "moe::Layer: one reduction at most");
  static_assert(!IsGiven<RouterT> || count_kind<gate_kind, ExtraTs...> == 0,
                "moe::Layer: GivenRouting has no logits, so it takes no gate");
  static_assert(
      !IsGiven<RouterT> || count_kind<loss_kind, ExtraTs...> == 0,
      "moe::Layer: GivenRouting has no logits, so losses on them have nothing to work on");
};

// What make_params asks for.
template <class GateT, class ExpertT, class T, class ExecT>
struct ParamsRequirements {
  static_assert(HasParams<ExpertT, T, ExecT>,
                "moe::Layer: an expert kernel's Params have static carve(carver, layout) and "
                "layout() const, see moe/expert/expert_kernel.hpp");
  static_assert(HasGateParams<GateT, T, ExecT>,
                "moe::Layer: a gate's Params have static carve(carver, layout) and layout() const, "
                "see moe/route/gate.hpp");
  static constexpr bool met = true;
};

template <class ExpertT, class T, class ExecT>
struct ExpertRequirements {
  static_assert(HasSaved<ExpertT, T, ExecT>,
                "moe::Layer: an expert kernel has make_saved, make_carry and make_scratch<T>(exec, "
                "layout, rows) const for this element type and space, see "
                "moe/expert/expert_kernel.hpp");
  static_assert(HasExpertInfer<ExpertT, T, ExecT>,
                "moe::Layer: an expert kernel has void infer(exec, params, groups, x, scratch, "
                "out) const for this element type and space");
  static_assert(HasExpertForward<ExpertT, T, ExecT>,
                "moe::Layer: an expert kernel has void forward(exec, params, groups, x, saved, "
                "scratch, out) const for this element type and space");
  static_assert(HasExpertBackwardData<ExpertT, T, ExecT>,
                "moe::Layer: an expert kernel has void backward_data(exec, params, saved, groups, "
                "x, dy, weight, carry, dx, d_weight) const for this element type and space");
  static_assert(HasExpertBackwardWeights<ExpertT, T, ExecT>,
                "moe::Layer: an expert kernel has void backward_weights(exec, saved, groups, x, "
                "dy, weight, carry, grads) const for this element type and space");
  static constexpr bool met = true;
};

template <class GateT, class T, class ExecT>
struct GateRequirements {
  static_assert(HasGateSaved<GateT, T, ExecT>,
                "moe::Layer: a gate has make_saved and make_carry<T>(exec, layout, tokens) const "
                "for this element type and space, see moe/route/gate.hpp");
  static_assert(HasGateForward<GateT, T, ExecT>,
                "moe::Layer: a gate has void forward(exec, params, step, x, saved, logits) const "
                "for this element type and space");
  static_assert(HasGateBackward<GateT, T, ExecT>,
                "moe::Layer: a gate has void backward_data(exec, params, saved, step, x, d_logits, "
                "carry, dx) const and backward_weights, which ends in grads in place of dx");
  static constexpr bool met = true;
};

template <class GateT, class T, class ExecT>
struct GateRequirements<GateInBlocks<GateT>, T, ExecT> : GateRequirements<GateT, T, ExecT> {};

template <class DispatcherT, class ExpertT, class T, class ExecT>
struct DispatcherRequirements {
  static_assert(HasDispatchState<DispatcherT, ExpertT, T, ExecT>,
                "moe::Layer: a dispatcher has make_saved<T>(exec, kernel, layout, rows) and "
                "make_work<T>(exec, kernel, layout, saved, rows) const, see "
                "moe/dispatch/dispatcher.hpp");
  static_assert(HasDispatchForward<DispatcherT, ExpertT, T, ExecT>,
                "moe::Layer: a dispatcher has void evaluate(exec, in, experts, addend, y) const "
                "and forward(exec, in, experts, saved, addend, y) const");
  static_assert(HasDispatchBackward<DispatcherT, ExpertT, T, ExecT>,
                "moe::Layer: a dispatcher has void backward_data, combine_backward and "
                "backward_weights, see moe/dispatch/dispatcher.hpp");
  static constexpr bool met = true;
};

template <class RouterT, class S, class ExecT>
struct RouterRequirements {
  static_assert(!NamesStage<RouterT> || HasStageRoute<RouterT, ExecT, S>,
                "moe::Layer: a stage-level router has void route(exec, comm, in, logits, routing) "
                "const for this space");
  static_assert(!NamesStage<RouterT> || HasStageRouteBackward<RouterT, ExecT, S>,
                "moe::Layer: a stage-level router has void route_backward(exec, in, logits, "
                "routing, d_weight, d_logits) const for this space");
  static constexpr bool met = true;
};

template <class SharedT, class T, class ExecT>
struct SharedRequirements {
  static constexpr bool met = true;
};
template <class KernelT, class GateT, class T, class ExecT>
struct SharedRequirements<SharedExpert<KernelT, GateT>, T, ExecT>
    : ExpertRequirements<KernelT, T, ExecT> {};
template <class SharedT, class T, class ExecT>
struct SharedRequirements<SharedInBlocks<SharedT>, T, ExecT>
    : SharedRequirements<SharedT, T, ExecT> {};

// What forward, backward and evaluate ask for; each part that is not met has said so.
template <class... Requirements>
inline constexpr bool all_met = (Requirements::met && ...);

}  // namespace moe::detail
