#pragma once
// Contract: a router decides, for one token, which K experts it goes to and with what weights.
#include <concepts>
#include <cstdint>
#include <type_traits>

#include <moe/core/element.hpp>
#include <moe/core/team.hpp>
#include <moe/route/row_math.hpp>

namespace moe {

// What changes from step to step. It lives in the space's memory and the caller updates it there,
// so that a captured graph sees the new values, and no entry can refuse one: a loss scale that
// is not finite shows in what the losses' gradients reach.
struct StepState {
  std::uint64_t step = 0;  // which numbers a noisy router draws
  std::uint64_t seed = 0;
  double temperature = 1;  // of TemperedGate
  double loss_scale  = 1;  // of the losses' gradients; dy is the caller's, scaled alike
};

// What a row's maths may know beside the row itself.
struct RowContext {
  index_t token  = 0;     // global over ranks
  bool training  = true;  // false in evaluate(): no noise
  StepState step = {};
};

// K experts, best first, and the weight each gets in the combine. Expert -1: no expert (dropped).
template <int K, RoutingScalar S>
struct Choice {
  Array<Id, K> expert{};
  Array<S, K> weight{};
};

inline constexpr int max_top_k = 32;

namespace detail {
// The row scalar a contract is checked with.
using CheckScalar = float;
}  // namespace detail

template <class R>
concept HasTopK = requires {
  { R::top_k } -> std::convertible_to<int>;
} && (R::top_k >= 1 && R::top_k <= max_top_k);

// How many columns of logits it reads: E, or more (noisy top-k: 2E), or 0 (given by the caller).
template <class R>
concept HasLogitColumns = requires(index_t experts) {
  { R::logit_columns(experts) } -> std::same_as<index_t>;
};

template <class R>
concept HasRoute = requires(
    R const r, SerialTeam team, RowContext const& ctx, Row<detail::CheckScalar const> logits) {
  { r.route(team, ctx, logits) } -> std::same_as<Choice<R::top_k, detail::CheckScalar>>;
};

template <class R>
concept HasRouteBackward = requires(R const r,
                                    SerialTeam team,
                                    RowContext const& ctx,
                                    Row<detail::CheckScalar const> logits,
                                    Choice<R::top_k, detail::CheckScalar> const& choice,
                                    Array<detail::CheckScalar, R::top_k> const& d_weight,
                                    Row<detail::CheckScalar> d_logits) {
  { r.route_backward(team, ctx, logits, choice, d_weight, d_logits) } -> std::same_as<void>;
};

// A router written as the maths of one row; the library runs it over all tokens on any space.
//   route           logits -> Choice<K, S>, K distinct experts whatever the logits hold
//   route_backward  d_weight (K) -> += d_logits; nothing flows through the selection
// S is float, or double in a double layer: both are templates on it. Trivially copyable because
// kernels take it by value.
template <class R>
concept RowRouter =
    std::is_trivially_copyable_v<R> && HasTopK<R> && HasRoute<R> && HasRouteBackward<R>;

// Optional, for a space that has a quicker way to the K largest logits of a row of E: the router
// says that it chooses those, and how it weights them. Its route() must give the same.
//   chooses_by_logits()   whether it does, with its parameters as they are
//   weighs_all            whether scores need the row's softmax, else they are given nothing
//   scores(softmax)       the function from a chosen logit to its score
//   weights(score)        of the scores of the K, the function from k and its score to the weight
template <class R>
concept ChoosesByLogits = RowRouter<R> && requires(R const r,
                                                   RowSoftmax<detail::CheckScalar> softmax,
                                                   detail::CheckScalar z,
                                                   Array<detail::CheckScalar, R::top_k> score) {
  typename std::bool_constant<R::weighs_all>;
  { r.chooses_by_logits() } -> std::same_as<bool>;
  { r.scores(softmax)(z) } -> std::same_as<detail::CheckScalar>;
  { r.weights(score)(int{}, z) } -> std::same_as<detail::CheckScalar>;
};

// A router of E columns need not say so.
template <class R>
constexpr index_t logit_columns(index_t experts)
{
  if constexpr (HasLogitColumns<R>) {
    return R::logit_columns(experts);
  } else {
    return experts;
  }
}

}  // namespace moe
