// error: moe::Layer: a router has Choice<top_k, S> route(team, context, logits) const
#include "parts.hpp"

struct Router : parts::Router {
  template <moe::Team G, class S>
  moe::Choice<2, S> route(G, moe::RowContext const&, moe::Row<S const>);
};
moe::Layer layer{Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
