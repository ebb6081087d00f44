// error: moe::Layer: a router has void route_backward(team, context, logits, choice, d_weight,
// d_logits) const
#include "parts.hpp"

struct Router {
  static constexpr int top_k = 1;
  template <moe::Team G, class S>
  moe::Choice<1, S> route(G team, moe::RowContext const&, moe::Row<S const> logits) const
  {
    return {moe::top_k<1>(team, logits.size(), [&](moe::Id e) { return logits[e]; }), {{1}}};
  }
};
moe::Layer layer{Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
