#pragma once
// What a layer is given beside its parameters (model.hpp), what it keeps, and the types that follow
// from what it is made of.
#include <array>
#include <tuple>

#include <moe/dispatch/dispatcher.hpp>
#include <moe/layer/in_blocks.hpp>
#include <moe/layer/model.hpp>
#include <moe/plan/make_plan.hpp>
#include <moe/route/linear_gate.hpp>
#include <moe/route/load_statistics.hpp>
#include <moe/route/loss_stage.hpp>
#include <moe/route/no_gate.hpp>
#include <moe/route/renormalize_kept.hpp>
#include <moe/route/route.hpp>

namespace moe {

// What one call works on beside parameters. Only x must be given. What x holds where the mask is 0
// does not matter, but to a shared expert, which computes every row.
template <class T, class ExecT>
struct LayerInput {
  View<T const, 2, ExecT> x;                  // (T, D)
  index_t sequences = 1;                      // T = sequences * length, for losses per sequence
  View<std::uint8_t const, 1, ExecT> mask{};  // (T), 0: no expert, no loss; or empty
  View<StepState const, 1, ExecT> step{};     // (1), or empty for StepState{}
  View<Id const, 2, ExecT> given_expert{};    // (T, K), for GivenRouting
  View<accumulator_t<T> const, 2, ExecT> given_weight{};  // (T, K), likewise
  index_t first_token = 0;  // global index of x's first row, for noise
};

namespace detail {

template <class X, class Kind>
concept OfKind = std::same_as<typename X::kind, Kind>;

// The one of `Extras` that is of Kind, or Default.
template <class Kind, class Default, class... Extras>
struct PickKind {
  using type = Default;
};
template <class Kind, class Default, class First, class... Rest>
struct PickKind<Kind, Default, First, Rest...>
    : std::conditional_t<OfKind<First, Kind>,
                         std::type_identity<First>,
                         PickKind<Kind, Default, Rest...>> {};

template <class Kind, class... Extras>
inline constexpr std::size_t count_kind = (std::size_t{0} + ... + (OfKind<Extras, Kind> ? 1 : 0));

// The argument of that type, or a default one.
template <class Wanted>
constexpr Wanted pick()
{
  return Wanted{};
}
template <class Wanted, class First, class... Rest>
constexpr Wanted pick(First const& first, Rest const&... rest)
{
  if constexpr (std::same_as<Wanted, First>) {
    return first;
  } else {
    return pick<Wanted>(rest...);
  }
}

template <class X>
constexpr auto keep_if_loss(X const& x)
{
  if constexpr (OfKind<X, loss_kind>) {
    return std::tuple<X>{x};
  } else {
    return std::tuple<>{};
  }
}

template <class R>
concept IsGiven = R::given;

template <class R>
constexpr int top_k_of()
{
  if constexpr (requires { R::top_k; }) {
    return R::top_k;
  } else {
    return 0;  // varies from token to token
  }
}

}  // namespace detail

namespace detail {

template <bool Has, class T, class ExecT, class SharedT>
struct SharedState {
  struct Saved {};
  struct Carry {};
};
template <class T, class ExecT, class SharedT>
struct SharedState<true, T, ExecT, SharedT> {
  using Saved = typename SharedT::template Saved<T, ExecT>;
  using Carry = typename SharedT::template Carry<T, ExecT>;
};

}  // namespace detail

// One batch after gate, route and plan.
template <class T, class ExecT, class ModelT, class GateT>
struct RoutedBatch {
  using S = accumulator_t<T>;

  typename ModelT::Sizes sizes{};
  index_t tokens = 0, sequences = 0;
  index_t tokens_of_all = 0;      // over all ranks, where K varies
  bool filled           = false;  // a forward pass has been here
  BlockCounts blocks{};           // of ReproducibleReduction

  typename GateT::template Saved<T, ExecT> gate;
  Tensor<S, 2, ExecT> logits;       // (T, N)
  Routing<S, ExecT> routing;        // ids, weights
  Tensor<S, 1, ExecT> kept_weight;  // (A) where weights are renormalised after drops
  RoutingPlan<ExecT> plan;

  // The weights that rows are combined with.
  [[nodiscard]] View<S const, 1, ExecT> weight() const
  {
    return kept_weight.extent(0) > 0 ? kept_weight.const_view() : routing.weight.const_view();
  }
  [[nodiscard]] DispatchInput<T, ExecT> to_dispatch(View<T const, 2, ExecT> x) const
  {
    return {routing.assignments(), plan, weight(), x};
  }
};

// Everything backward needs and the caller does not hold already. The caller's to keep and to hand
// to forward again: one per micro-batch in flight.
template <class T,
          class ExecT,
          class ModelT,
          class GateT,
          class ExpertT,
          class SharedT,
          class DispatcherT,
          std::size_t Losses>
struct [[nodiscard("backward needs this state; evaluate keeps none")]] LayerSaved
    : RoutedBatch<T, ExecT, ModelT, GateT> {
  using S = accumulator_t<T>;

  typename DispatcherT::template Saved<T, ExecT, ExpertT> experts;
  typename detail::SharedState<ModelT::has_shared, T, ExecT, SharedT>::Saved shared;
  std::array<Load<S, ExecT>, Losses> loads;
  Tensor<S, 1, ExecT> loss_values;           // (losses)
  Tensor<Id, 1, ExecT> non_finite, invalid;  // (1) tokens, ids

  // Both wait for the device. Where a rank may have died, wait(exec) of the communicator comes
  // first, as before any read of a result: its wait for that rank ends.

  // The losses' values over all ranks, coefficients included and loss scale not.
  [[nodiscard]] std::array<S, Losses> losses(ExecT const& exec) const
  {
    std::array<S, Losses> values{};
    exec.copy_to_host(values.data(), loss_values.const_view().data_handle(), Losses * sizeof(S));
    return values;
  }
  // Loads, drops and bad input of this batch.
  [[nodiscard]] LoadStatistics statistics(ExecT const& exec) const
  {
    return read_statistics(exec, this->plan, non_finite.const_view(), invalid.const_view());
  }
};

// Scratch of one backward pass.
template <class T,
          class ExecT,
          class ModelT,
          class GateT,
          class ExpertT,
          class SharedT,
          class DispatcherT>
struct LayerWork {
  using S = accumulator_t<T>;

  Tensor<S, 1, ExecT> d_weight;  // (A)
  Tensor<S, 2, ExecT> d_logits;  // (T, N)
  Tensor<S, 2, ExecT> addend;    // (T, D) what gate and shared expert add to dx
  Tensor<T, 2, ExecT> masked_x;  // (T, D) what the gate reads, where a mask is given
  typename GateT::template Carry<T, ExecT> gate;
  typename DispatcherT::template Work<T, ExecT, ExpertT> experts;
  typename detail::SharedState<ModelT::has_shared, T, ExecT, SharedT>::Carry shared;
  detail::BlockGrads<S, ExecT> blocks;  // of ReproducibleReduction
};

// The types that follow from a composition.
template <class RouterT, class DispatcherT, class ExpertT, class... ExtraTs>
struct LayerTypes {
  using GivenGate =
      typename detail::PickKind<gate_kind,
                                std::conditional_t<detail::IsGiven<RouterT>, NoGate, LinearGate>,
                                ExtraTs...>::type;
  using GivenShared = typename detail::PickKind<shared_kind, NoSharedExpert, ExtraTs...>::type;
  using ReductionT  = typename detail::PickKind<reduction_kind, RankByRank, ExtraTs...>::type;
  using Beside      = detail::BesideExpertsOf<ReductionT, GivenGate, GivenShared>;
  using GateT       = typename Beside::Gate;
  using SharedT     = typename Beside::Shared;
  using Losses      = decltype(std::tuple_cat(detail::keep_if_loss(std::declval<ExtraTs>())...));
  using Model       = LayerModel<RouterT, GateT, ExpertT, SharedT>;
  using Sizes       = typename Model::Sizes;

  static constexpr bool reproducible      = std::same_as<ReductionT, ReproducibleReduction>;
  static constexpr std::size_t loss_count = detail::count_kind<loss_kind, ExtraTs...>;

  template <class T, class ExecT>
  using Params = typename Model::template Params<T, ExecT>;
  template <class T, class ExecT>
  using Routed = RoutedBatch<T, ExecT, Model, GateT>;
  template <class T, class ExecT>
  using Saved = LayerSaved<T, ExecT, Model, GateT, ExpertT, SharedT, DispatcherT, loss_count>;
  template <class T, class ExecT>
  using Work = LayerWork<T, ExecT, Model, GateT, ExpertT, SharedT, DispatcherT>;
};

}  // namespace moe
