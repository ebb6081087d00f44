// error: moe::Layer: a router has Choice<top_k, S> route(team, context, logits) const
#include "parts.hpp"

struct Router : parts::Router {
  void route() const;
};
moe::Layer layer{Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
