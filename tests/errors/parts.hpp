#pragma once
// Whole parts of a layer, as small as their contracts allow. Each program here hides or replaces
// one member of one of them and composes the rest.
#include <moe/dispatch/local_dispatcher.hpp>
#include <moe/expert/ffn.hpp>
#include <moe/expert/shared_expert.hpp>
#include <moe/layer.hpp>
#include <moe/route/row_math.hpp>

namespace parts {

using moe::Array, moe::Carver, moe::Choice, moe::Id, moe::index_t, moe::LossRow, moe::Row,
    moe::RowContext, moe::View;

struct Router {
  static constexpr int top_k = 2;
  template <moe::Team G, class S>
  Choice<2, S> route(G team, RowContext const&, Row<S const> logits) const
  {
    return {moe::top_k<2>(team, logits.size(), [&](Id e) { return logits[e]; }), {{1, 1}}};
  }
  template <moe::Team G, class S>
  void route_backward(
      G, RowContext const&, Row<S const>, Choice<2, S> const&, Array<S, 2> const&, Row<S>) const
  {
  }
};

struct StageRouter {
  static constexpr bool stage_level = true;
  static constexpr int top_k        = 1;
  static index_t assignments(index_t tokens, index_t) { return tokens; }
  template <class ExecT, class CommT, class S>
  void route(ExecT const&,
             CommT const&,
             moe::RoutingInput<S, ExecT> const&,
             View<S const, 2, ExecT>,
             moe::RoutingView<S, ExecT>) const
  {
  }
  template <class ExecT, class S>
  void route_backward(ExecT const&,
                      moe::RoutingInput<S, ExecT> const&,
                      View<S const, 2, ExecT>,
                      moe::ConstRoutingView<S, ExecT>,
                      View<S const, 1, ExecT>,
                      View<S, 2, ExecT>) const
  {
  }
};

struct Loss {
  using kind                                = moe::loss_kind;
  static constexpr moe::LoadScope scope     = moe::LoadScope::batch;
  static constexpr moe::LoadChoices choices = moe::LoadChoices::all;
  template <moe::Team G, class S>
  S row_loss(G, LossRow<S> const&) const
  {
    return 0;
  }
  template <moe::Team G, class S>
  void row_loss_backward(G, LossRow<S> const&, S, Row<S>) const
  {
  }
};

using Gate       = moe::LinearGate;
using Expert     = moe::Ffn<moe::Relu>;
using Dispatcher = moe::SerialDispatcher;

}  // namespace parts
