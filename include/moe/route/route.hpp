#pragma once
// The stage: routers over all tokens. A row router is driven over the rows; a router that looks at
// all logits at once (expert choice) models StageRouter itself.
#include <moe/comm/communicator.hpp>
#include <moe/exec/execution_space.hpp>
#include <moe/route/routing.hpp>

namespace moe {

// A router over the whole (T, N) of logits:
//   assignments(tokens, experts)   A, known to the host
//   assignments(tokens, experts, ranks)   optional: the most that may fall to these tokens of one
//                                  of several ranks; what is too many goes nowhere
//   route(exec, comm, in, logits, routing)                          fills the routing
//   route_backward(exec, in, logits, routing, d_weight, d_logits)   d_logits (T, N) += ...
template <class R>
concept NamesStage = R::stage_level;

template <class R>
concept HasAssignments = requires(R const r, index_t n) {
  { r.assignments(n, n) } -> std::same_as<index_t>;
};

template <class R>
concept HasAssignmentsOfRank = requires(R const r, index_t n) {
  { r.assignments(n, n, n) } -> std::same_as<index_t>;
};

template <class R, class ExecT, class S>
concept HasStageRoute = requires(R const r,
                                 ExecT const exec,
                                 SelfCommunicator const comm,
                                 RoutingInput<S, ExecT> const in,
                                 View<S const, 2, ExecT> logits,
                                 RoutingView<S, ExecT> routing) {
  { r.route(exec, comm, in, logits, routing) } -> std::same_as<void>;
};

template <class R, class ExecT, class S>
concept HasStageRouteBackward = requires(R const r,
                                         ExecT const exec,
                                         RoutingInput<S, ExecT> const in,
                                         View<S const, 2, ExecT> logits,
                                         ConstRoutingView<S, ExecT> routing,
                                         View<S const, 1, ExecT> d_weight,
                                         View<S, 2, ExecT> d_logits) {
  { r.route_backward(exec, in, logits, routing, d_weight, d_logits) } -> std::same_as<void>;
};

template <class R, class ExecT, class S>
concept StageRouter = NamesStage<R> && HasAssignments<R> && HasStageRoute<R, ExecT, S> &&
                      HasStageRouteBackward<R, ExecT, S>;

namespace detail {

// One token. A named functor, not a lambda: __host__ __device__ lambdas would ask every user to
// compile with --extended-lambda.
template <class RouterT, class S, class ExecT>
struct RouteRow {
  RouterT router;
  RoutingInput<S, ExecT> in;
  View<S const, 2, ExecT> logits;  // (T, N)
  RoutingView<S, ExecT> routing;

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    constexpr int K = RouterT::top_k;
    if (!in.takes_part(t)) {
      for (int k = team.lane(); k < K; k += team.size()) {
        routing.expert(t * K + k) = no_expert;
        routing.weight(t * K + k) = 0;
      }
      return;
    }
    auto const choice = router.route(team, in.context(t), row(logits, t));
    for (int k = 0; k < K; ++k) {  // all in registers, where a loop from the lane on reads memory
      if (!owns_column(team, k)) { continue; }
      routing.expert(t * K + k) = choice.expert[k];
      routing.weight(t * K + k) = choice.weight[k];
    }
  }
};

template <class RouterT, class S, class ExecT>
struct RouteBackwardRow {
  RouterT router;
  RoutingInput<S, ExecT> in;
  View<S const, 2, ExecT> logits;  // (T, N)
  ConstRoutingView<S, ExecT> routing;
  View<S const, 1, ExecT> d_weight;  // (A)
  View<S, 2, ExecT> d_logits;        // (T, N)

  template <Team G>
  MOE_HOST_DEVICE void operator()(G team, index_t t) const
  {
    constexpr int K = RouterT::top_k;
    if (!in.takes_part(t)) { return; }
    Choice<K, S> choice;
    Array<S, K> d{};
    for (int k = 0; k < K; ++k) {
      choice.expert[k] = routing.expert(t * K + k);
      choice.weight[k] = routing.weight(t * K + k);
      d[k]             = d_weight(t * K + k);
    }
    router.route_backward(team, in.context(t), row(logits, t), choice, d, row(d_logits, t));
  }
};

// Whether the space has a quicker way for routers that choose by logits:
//   route_by_logits(exec, row)   the same as for_each_row of it; false where it is not for such
//   rows
template <class ExecT>
concept RoutesByLogits = ExecT::routes_by_logits;

}  // namespace detail

// A row router as a stage.
template <RowRouter RouterT>
struct RowRouterStage {
  RouterT router;

  static constexpr bool stage_level = true;
  static constexpr int top_k        = RouterT::top_k;

  [[nodiscard]] static constexpr index_t assignments(index_t tokens, index_t)
  {
    return tokens * top_k;
  }
  template <class ExecT, class CommT, class S>
  void route(ExecT const& exec,
             CommT const&,
             RoutingInput<S, ExecT> const& in,
             View<S const, 2, ExecT> logits,
             RoutingView<S, ExecT> routing) const
  {
    detail::RouteRow<RouterT, S, ExecT> const row{router, in, logits, routing};
    if constexpr (detail::RoutesByLogits<ExecT> && ChoosesByLogits<RouterT>) {
      if (route_by_logits(exec, row)) { return; }
    }
    exec.for_each_row(in.tokens, row);
  }
  template <class ExecT, class S>
  void route_backward(ExecT const& exec,
                      RoutingInput<S, ExecT> const& in,
                      View<S const, 2, ExecT> logits,
                      ConstRoutingView<S, ExecT> routing,
                      View<S const, 1, ExecT> d_weight,
                      View<S, 2, ExecT> d_logits) const
  {
    exec.for_each_row(in.tokens,
                      detail::RouteBackwardRow<RouterT, S, ExecT>{
                          router, in, logits, routing, d_weight, d_logits});
  }
};

// Any router as a stage.
template <class RouterT>
constexpr auto as_stage(RouterT const& router)
{
  if constexpr (NamesStage<RouterT>) {
    return router;
  } else {
    return RowRouterStage<RouterT>{router};
  }
}

}  // namespace moe
