// Types that fail exactly one requirement of a routing contract are no models of it; all that the
// library brings are.
#include <moe/exec/host.hpp>
#include <moe/route/balance_loss.hpp>
#include <moe/route/expert_choice_router.hpp>
#include <moe/route/given_routing.hpp>
#include <moe/route/noisy_top_k_router.hpp>
#include <moe/route/renormalize_kept.hpp>
#include <moe/route/scored_router.hpp>
#include <moe/route/top_k_softmax_router.hpp>

#include <doctest/doctest.h>

#include <string>

using namespace moe;

namespace {

// --- RowRouter -----------------------------------------------------------------------------------

struct GoodRouter {
  static constexpr int top_k = 2;
  template <Team G, RoutingScalar S>
  Choice<2, S> route(G, RowContext const&, Row<S const>) const
  {
    return {{{0, 1}}, {{1, 0}}};
  }
  template <Team G, RoutingScalar S>
  void route_backward(
      G, RowContext const&, Row<S const>, Choice<2, S> const&, Array<S, 2> const&, Row<S>) const
  {
  }
};
static_assert(RowRouter<GoodRouter>);
static_assert(!HasLogitColumns<GoodRouter>);
static_assert(logit_columns<GoodRouter>(7) == 7);

struct NotCopyableByBytes : GoodRouter {
  std::string name;
};
static_assert(HasTopK<NotCopyableByBytes> && HasRoute<NotCopyableByBytes> &&
              HasRouteBackward<NotCopyableByBytes>);
static_assert(!RowRouter<NotCopyableByBytes>);

struct NoTopK {
  template <Team G, RoutingScalar S>
  Choice<2, S> route(G, RowContext const&, Row<S const>) const;
};
static_assert(!HasTopK<NoTopK> && !RowRouter<NoTopK>);

template <int K>
struct AnyTopK {
  static constexpr int top_k = K;
  template <Team G, RoutingScalar S>
  Choice<K, S> route(G, RowContext const&, Row<S const>) const;
  template <Team G, RoutingScalar S>
  void route_backward(
      G, RowContext const&, Row<S const>, Choice<K, S> const&, Array<S, K> const&, Row<S>) const;
};
static_assert(RowRouter<AnyTopK<1>> && RowRouter<AnyTopK<32>>);
static_assert(!RowRouter<AnyTopK<0>> && HasRoute<AnyTopK<0>> && HasRouteBackward<AnyTopK<0>>);
static_assert(!RowRouter<AnyTopK<33>> && HasRoute<AnyTopK<33>> && HasRouteBackward<AnyTopK<33>>);

struct NoRoute {
  static constexpr int top_k = 2;
  template <Team G, RoutingScalar S>
  void route_backward(
      G, RowContext const&, Row<S const>, Choice<2, S> const&, Array<S, 2> const&, Row<S>) const;
};
static_assert(HasRouteBackward<NoRoute> && !HasRoute<NoRoute> && !RowRouter<NoRoute>);

struct NoRouteBackward {
  static constexpr int top_k = 2;
  template <Team G, RoutingScalar S>
  Choice<2, S> route(G, RowContext const&, Row<S const>) const;
};
static_assert(HasRoute<NoRouteBackward> && !HasRouteBackward<NoRouteBackward>);
static_assert(!RowRouter<NoRouteBackward>);

struct RoutesOneTooMany : GoodRouter {
  template <Team G, RoutingScalar S>
  Choice<3, S> route(G, RowContext const&, Row<S const>) const;
};
static_assert(!HasRoute<RoutesOneTooMany> && HasRouteBackward<RoutesOneTooMany>);
static_assert(!RowRouter<RoutesOneTooMany>);

struct RoutesNotConst : GoodRouter {
  template <Team G, RoutingScalar S>
  Choice<2, S> route(G, RowContext const&, Row<S const>);
};
static_assert(!HasRoute<RoutesNotConst> && HasRouteBackward<RoutesNotConst>);
static_assert(!RowRouter<RoutesNotConst>);

struct WritesLogits : GoodRouter {  // asks for a row that it may change
  template <Team G, RoutingScalar S>
  Choice<2, S> route(G, RowContext const&, Row<S>) const;
};
static_assert(!HasRoute<WritesLogits> && !RowRouter<WritesLogits>);

struct BackwardReturns : GoodRouter {
  template <Team G, RoutingScalar S>
  int route_backward(
      G, RowContext const&, Row<S const>, Choice<2, S> const&, Array<S, 2> const&, Row<S>) const;
};
static_assert(HasRoute<BackwardReturns> && !HasRouteBackward<BackwardReturns>);
static_assert(!RowRouter<BackwardReturns>);

struct ColumnsOfAnotherType : GoodRouter {
  static int logit_columns(index_t);
};
static_assert(RowRouter<ColumnsOfAnotherType> && !HasLogitColumns<ColumnsOfAnotherType>);

static_assert(RowRouter<SoftmaxTopK<1>> && RowRouter<SoftmaxTopK<32, renormalized>>);
static_assert(RowRouter<SigmoidTopK<8, lp_normalized<2>, group_limited<group_maximum>>>);
static_assert(RowRouter<SqrtSoftplusTopK<2, unnormalized, group_limited<top_k_share_sum>>>);
static_assert(RowRouter<TopKSoftmax<32>> && RowRouter<NoisyTopK<32>> && RowRouter<SwitchRouter>);
static_assert(RowRouter<RenormalizeKept<SigmoidTopK<2>>>);
static_assert(logit_columns<NoisyTopK<2>>(7) == 14 && logit_columns<GivenRouting<2>>(7) == 0);
static_assert(logit_columns<ExpertChoice>(7) == 7 &&
              logit_columns<RenormalizeKept<NoisyTopK<2>>>(7) == 14);

// --- StageRouter ---------------------------------------------------------------------------------

struct GoodStage {
  static constexpr bool stage_level = true;
  [[nodiscard]] index_t assignments(index_t tokens, index_t) const { return tokens; }
  template <class ExecT, class CommT, class S>
  void route(ExecT const&,
             CommT const&,
             RoutingInput<S, ExecT> const&,
             View<S const, 2, ExecT>,
             RoutingView<S, ExecT>) const
  {
  }
  template <class ExecT, class S>
  void route_backward(ExecT const&,
                      RoutingInput<S, ExecT> const&,
                      View<S const, 2, ExecT>,
                      ConstRoutingView<S, ExecT>,
                      View<S const, 1, ExecT>,
                      View<S, 2, ExecT>) const
  {
  }
};
static_assert(StageRouter<GoodStage, Host, float> && StageRouter<GoodStage, Host, double>);

struct OfTheRow : GoodStage {
  static constexpr bool stage_level = false;
};
static_assert(!NamesStage<OfTheRow> && !StageRouter<OfTheRow, Host, float>);

struct CountsInInt : GoodStage {
  [[nodiscard]] int assignments(index_t, index_t) const;
};
static_assert(!HasAssignments<CountsInInt> && HasStageRoute<CountsInInt, Host, float> &&
              HasStageRouteBackward<CountsInInt, Host, float>);
static_assert(!StageRouter<CountsInInt, Host, float>);

struct RoutesWithoutRanks : GoodStage {
  template <class ExecT, class S>
  void route(ExecT const&,
             RoutingInput<S, ExecT> const&,
             View<S const, 2, ExecT>,
             RoutingView<S, ExecT>) const;
};
static_assert(HasAssignments<RoutesWithoutRanks> &&
              !HasStageRoute<RoutesWithoutRanks, Host, float> &&
              HasStageRouteBackward<RoutesWithoutRanks, Host, float>);
static_assert(!StageRouter<RoutesWithoutRanks, Host, float>);

struct BackwardChangesRouting : GoodStage {
  template <class ExecT, class S>
  void route_backward(ExecT const&,
                      RoutingInput<S, ExecT> const&,
                      View<S const, 2, ExecT>,
                      RoutingView<S, ExecT>,
                      View<S const, 1, ExecT>,
                      View<S, 2, ExecT>) const;
};
static_assert(HasStageRoute<BackwardChangesRouting, Host, float> &&
              !HasStageRouteBackward<BackwardChangesRouting, Host, float>);
static_assert(!StageRouter<BackwardChangesRouting, Host, float>);

struct OnlyFloat : GoodStage {
  void route_backward(Host const&,
                      RoutingInput<float, Host> const&,
                      View<float const, 2, Host>,
                      ConstRoutingView<float, Host>,
                      View<float const, 1, Host>,
                      View<float, 2, Host>) const;
};
static_assert(StageRouter<OnlyFloat, Host, float> && !StageRouter<OnlyFloat, Host, double>);

static_assert(StageRouter<ExpertChoice, Host, float> && StageRouter<ExpertChoice, Host, double>);
static_assert(StageRouter<GivenRouting<2>, Host, float>);
static_assert(StageRouter<RenormalizeKept<ExpertChoice>, Host, double>);
static_assert(StageRouter<RowRouterStage<TopKSoftmax<2>>, Host, float>);
static_assert(!StageRouter<TopKSoftmax<2>, Host, float> && !RowRouter<ExpertChoice>);
static_assert(!RowRouter<GivenRouting<2>>);

// --- BalanceLoss ---------------------------------------------------------------------------------

struct GoodLoss {
  using kind                           = loss_kind;
  static constexpr LoadScope scope     = LoadScope::batch;
  static constexpr LoadChoices choices = LoadChoices::all;
  template <Team G, RoutingScalar S>
  S row_loss(G, LossRow<S> const&) const
  {
    return 0;
  }
  template <Team G, RoutingScalar S>
  void row_loss_backward(G, LossRow<S> const&, S, Row<S>) const
  {
  }
};
static_assert(BalanceLoss<GoodLoss>);

struct LossOfBytes : GoodLoss {
  std::string name;
};
static_assert(HasLossKind<LossOfBytes> && NamesItsLoad<LossOfBytes> && HasRowLoss<LossOfBytes> &&
              HasRowLossBackward<LossOfBytes> && !BalanceLoss<LossOfBytes>);

struct OtherKind : GoodLoss {
  using kind = int;
};
static_assert(!HasLossKind<OtherKind> && !BalanceLoss<OtherKind>);

struct NoScope {
  using kind                                            = loss_kind;
  [[maybe_unused]] static constexpr LoadChoices choices = LoadChoices::all;
  template <Team G, RoutingScalar S>
  S row_loss(G, LossRow<S> const&) const;
  template <Team G, RoutingScalar S>
  void row_loss_backward(G, LossRow<S> const&, S, Row<S>) const;
};
static_assert(HasLossKind<NoScope> && HasRowLoss<NoScope> && HasRowLossBackward<NoScope> &&
              !NamesItsLoad<NoScope> && !BalanceLoss<NoScope>);

struct ChoicesAsNumber : GoodLoss {
  static constexpr int choices = 1;
};
static_assert(!NamesItsLoad<ChoicesAsNumber> && !BalanceLoss<ChoicesAsNumber>);

struct LossInDouble : GoodLoss {
  template <Team G, RoutingScalar S>
  double row_loss(G, LossRow<S> const&) const;
};
static_assert(!HasRowLoss<LossInDouble> && HasRowLossBackward<LossInDouble> &&
              !BalanceLoss<LossInDouble>);

struct NoLossBackward {
  using kind                           = loss_kind;
  static constexpr LoadScope scope     = LoadScope::batch;
  static constexpr LoadChoices choices = LoadChoices::all;
  template <Team G, RoutingScalar S>
  S row_loss(G, LossRow<S> const&) const;
};
static_assert(HasLossKind<NoLossBackward> && NamesItsLoad<NoLossBackward> &&
              HasRowLoss<NoLossBackward> && !HasRowLossBackward<NoLossBackward> &&
              !BalanceLoss<NoLossBackward>);

static_assert(BalanceLoss<SwitchLoss> && BalanceLoss<GShardLoss> && BalanceLoss<GShardPaperLoss> &&
              BalanceLoss<MixtralLoss> && BalanceLoss<MiniMindBatchLoss> &&
              BalanceLoss<MiniMindSequenceLoss> && BalanceLoss<DeepSeekSequenceLoss> &&
              BalanceLoss<RouterZLoss>);
static_assert(!BalanceLoss<SwitchRouter> && !RowRouter<SwitchLoss>);

}  // namespace

TEST_CASE("a router by the contract runs as a stage")
{
  Host const exec{{.threads = 1}};
  auto const stage = as_stage(GoodRouter{});
  static_assert(std::is_same_v<decltype(as_stage(GoodStage{})), GoodStage>);
  Routing<float, Host> routing(exec, 3, stage.assignments(3, 5), 2);
  RoutingInput<float, Host> const in{.tokens = 3, .experts = 5};
  Tensor<float, 2, Host> logits(exec, 3, 5);
  stage.route(exec, SelfCommunicator{}, in, logits.const_view(), routing.view());
  for (index_t a = 0; a < 6; ++a) {
    CHECK(routing.expert.const_view()(a) == a % 2);
    CHECK(routing.weight.const_view()(a) == static_cast<float>(1 - a % 2));
  }
}
