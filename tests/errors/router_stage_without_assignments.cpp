// error: moe::Layer: a stage-level router has index_t assignments(tokens, experts) const
#include "parts.hpp"

struct Router : parts::StageRouter {
  void assignments() const;
};
moe::Layer layer{Router{}, moe::Dropless{}, moe::SerialDispatcher{}, moe::Ffn<moe::Relu>{}};
