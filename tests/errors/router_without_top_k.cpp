// error: moe::Layer: a router has static constexpr int top_k in 1 ... 32
#include "parts.hpp"

struct Router {
  template <moe::Team G, class S>
  moe::Choice<2, S> route(G, moe::RowContext const&, moe::Row<S const>) const;
};
moe::Layer layer{Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
