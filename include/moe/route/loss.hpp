#pragma once
// Contract: a loss on the routing, given as the value and the gradient of one row.
#include <concepts>
#include <type_traits>

#include <moe/route/router.hpp>

namespace moe {

struct loss_kind {};  // what tells Layer's arguments apart

enum class LoadScope { batch, sequence };  // over which tokens a load is counted
enum class LoadChoices { all, first };     // every choice of a token, or only its first

// What a loss may know of one token's row.
template <RoutingScalar S>
struct LossRow {
  Row<S const> logits;  // (E) the router's first E columns: no noise in them
  Row<S const> load;    // (E) assignments per expert of the row's batch or sequence, before drops
  S tokens;             // tokens of that batch or sequence that are not masked out
  S sequences;          // sequences that have such a token; 1 over the batch
  S top_k;              // K; its mean where it varies from token to token
};

template <class L>
concept HasLossKind = std::same_as<typename L::kind, loss_kind>;

template <class L>
concept NamesItsLoad = requires {
  { L::scope } -> std::convertible_to<LoadScope>;
  { L::choices } -> std::convertible_to<LoadChoices>;
};

template <class L>
concept HasRowLoss = requires(L const l, SerialTeam team, LossRow<detail::CheckScalar> const& in) {
  { l.row_loss(team, in) } -> std::same_as<detail::CheckScalar>;
};

template <class L>
concept HasRowLossBackward = requires(L const l,
                                      SerialTeam team,
                                      LossRow<detail::CheckScalar> const& in,
                                      detail::CheckScalar d_loss,
                                      Row<detail::CheckScalar> d_logits) {
  { l.row_loss_backward(team, in, d_loss, d_logits) } -> std::same_as<void>;
};

// A scalar of the training objective, the sum over tokens of row_loss; its gradient is part of
// Layer::backward, so it cannot be computed and forgotten. `load` is a constant to the gradient, as
// in Switch (Fedus et al. 2021, eq. 4-6). row_loss_backward: += d_loss times the row's gradient.
template <class L>
concept BalanceLoss = std::is_trivially_copyable_v<L> && HasLossKind<L> && NamesItsLoad<L> &&
                      HasRowLoss<L> && HasRowLossBackward<L>;

}  // namespace moe
